"""Reconstruction: known answers, exact counts, refusals."""

import numpy as np
import pytest

from pruneaug_cli.core import (
    BlockGrid,
    BlockMask,
    BlockShape,
    MatrixShape,
    keep_best,
    removed_blocks,
)
from pruneaug_cli.criteria import (
    CRITERIA,
    LayerEvidence,
    ReconstructionSettings,
    gradual,
    least_squares,
    output_error,
)
from pruneaug_cli.criteria.solver import MaskedLeastSquares

LADDER = (0.25, 0.5, 0.75, 0.9)


def layer(rows=16, cols=24, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, cols)) @ rng.standard_normal((cols, cols))
    weight = rng.standard_normal((rows, cols)).astype(np.float32)
    return weight, LayerEvidence((x.T @ x / 200).astype(dtype), 200)


def grid(weight, text):
    return BlockGrid(MatrixShape(*weight.shape), BlockShape.parse(text))


def test_a_copied_input_takes_over_the_work_of_its_twin():
    """Columns 0 and 1 carry the same signal, so all of it can move to column 0."""
    moment = np.array([[1.0, 1.0], [1.0, 1.0]])
    one_by_one = BlockGrid(MatrixShape(1, 2), BlockShape(1, 1))
    mask = BlockMask(one_by_one, np.array([[True, False]]))
    found = least_squares(np.array([[2.0, 3.0]]), moment, mask, ridge=1e-9)
    np.testing.assert_allclose(found, [[5.0, 0.0]], atol=1e-6)


def test_independent_inputs_leave_the_kept_weights_alone():
    weight, _ = layer()
    mask = BlockMask(grid(weight, "4x1"), np.arange(4 * 24).reshape(4, 24) % 3 > 0)
    found = least_squares(weight, np.eye(24), mask)
    np.testing.assert_allclose(found, mask.apply(weight), atol=1e-12)


def test_output_error_is_zero_for_the_same_and_one_for_nothing():
    weight, evidence = layer()
    assert output_error(weight, weight, evidence.second_moment) == 0.0
    nothing = np.zeros_like(weight)
    assert output_error(weight, nothing, evidence.second_moment) == pytest.approx(1.0)


def test_a_layer_that_only_sees_zeros_has_no_harm_and_keeps_its_weights():
    weight, _ = layer()
    dead = LayerEvidence(np.zeros((24, 24)), 1)
    (found,) = gradual(weight, dead, grid(weight, "4x1"), [0.5])
    assert found.harm == 0.0
    np.testing.assert_allclose(found.weight, found.mask.apply(weight), rtol=1e-12)


@pytest.mark.parametrize("block", ["1x1", "4x1", "3x5", "16x1", "1x24", "2x2", "64x64"])
def test_exactly_the_asked_blocks_go_and_masks_are_nested(block):
    weight, evidence = layer()
    blocks = grid(weight, block)
    found = gradual(weight, evidence, blocks, (0.0, *LADDER))
    before = np.ones(blocks.shape, dtype=bool)
    for one, sparsity in zip(found, (0.0, *LADDER), strict=True):
        assert one.mask.blocks == blocks.size - removed_blocks(blocks.size, sparsity)
        assert not (one.mask.kept & ~before).any()
        assert not one.weight[~one.mask.elements()].any()
        before = one.mask.kept


def test_sparsity_zero_is_the_dense_layer_bit_for_bit():
    weight, evidence = layer(dtype=np.float32)
    (found,) = gradual(weight, evidence, grid(weight, "4x1"), [0.0])
    np.testing.assert_array_equal(found.weight, weight)
    assert found.harm == 0.0


@pytest.mark.parametrize("exact", [0, 1000], ids=["fixed-inverse", "renewed-inverse"])
def test_reconstruction_beats_magnitude_pruning(exact):
    weight, evidence = layer()
    blocks = grid(weight, "4x1")
    settings = ReconstructionSettings(exact_columns=exact)
    scores = CRITERIA.create("magnitude").scores(weight, blocks, evidence)
    found = gradual(weight, evidence, blocks, LADDER, settings)
    for one, sparsity in zip(found, LADDER, strict=True):
        plain = BlockMask(blocks, keep_best(scores, sparsity)).apply(weight)
        assert one.harm < 0.9 * output_error(weight, plain, evidence.second_moment)


def test_float32_gives_what_float64_gives():
    """The ridge bounds the condition number by 1e2 K: errors of K * 1e2 * eps32 of the weights."""
    weight, evidence = layer()
    single = LayerEvidence(evidence.second_moment.astype(np.float32), 200)
    mask = gradual(weight, evidence, grid(weight, "4x1"), [0.5])[0].mask
    exact = least_squares(weight, evidence.second_moment, mask)
    found = least_squares(weight, single.second_moment, mask)
    assert found.dtype == np.float32
    bound = 24 * 1e2 * np.finfo(np.float32).eps * np.abs(exact).max()
    np.testing.assert_allclose(found, exact, atol=bound)


def test_both_forms_of_the_solution_agree():
    weight, evidence = layer()
    solver = MaskedLeastSquares(weight, evidence.second_moment, 1e-2)
    kept, removed = np.arange(13), np.arange(13, 24)  # fewer removed: solved by the inverse
    by_kept, blocks = solver.solve_with_inverse(slice(0, 4), kept, 1)
    np.testing.assert_allclose(solver.solve(slice(0, 4), kept, removed), by_kept, rtol=1e-9)
    inverse = np.linalg.inv(solver.moment[:13, :13])
    np.testing.assert_allclose(blocks[:, 0, 0], np.diag(inverse), rtol=1e-9)


def test_the_walk_is_repeatable():
    weight, evidence = layer()
    first, second = (gradual(weight, evidence, grid(weight, "8x1"), LADDER) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)


def test_sparsities_must_rise():
    weight, evidence = layer()
    with pytest.raises(ValueError, match=r"sparsities must rise, got \[0.5, 0.25\]"):
        gradual(weight, evidence, grid(weight, "4x1"), [0.5, 0.25])


def test_evidence_of_another_layer_is_refused():
    weight, _ = layer()
    with pytest.raises(ValueError, match="evidence of 3 columns does not fit a 16x24 matrix"):
        gradual(weight, LayerEvidence(np.eye(3), 1), grid(weight, "4x1"), [0.5])


def test_an_impossible_second_moment_is_refused():
    weight, _ = layer()
    mask = BlockMask(grid(weight, "4x1"), np.arange(4 * 24).reshape(4, 24) % 3 == 0)
    with pytest.raises(ValueError, match="not positive definite after the ridge; raise 'ridge'"):
        least_squares(weight, 1.0 - 2.0 * np.eye(24) + np.eye(24) * 1.01, mask)


@pytest.mark.parametrize(
    "bad", [{"ridge": 0.0}, {"step": 0.0}, {"step": 1.5}, {"exact_columns": -1}, {"wide_step": 2}]
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="expected ridge > 0, steps in"):
        ReconstructionSettings(**bad)
