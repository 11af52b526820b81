"""Pruning paths by the criterion a user names."""

import itertools

import numpy as np
import pytest

from pruneaug_cli.core import BlockGrid, BlockShape, MatrixShape, keep_best, removed_blocks
from pruneaug_cli.criteria import (
    CRITERIA,
    LayerEvidence,
    PruningMethod,
    ReconstructionSettings,
    gradual,
    prune_path,
)
from pruneaug_cli.errors import UnsupportedError

GRID = BlockGrid(MatrixShape(10, 12), BlockShape(4, 1))
RANDOM = np.random.default_rng(5)
WEIGHT = RANDOM.standard_normal((10, 12))
INPUTS = RANDOM.standard_normal((200, 12)) @ RANDOM.standard_normal((12, 12))
EVIDENCE = LayerEvidence(INPUTS.T @ INPUTS / 200, 200, RANDOM.random((10, 12)))


@pytest.mark.parametrize("name", ["obs", "gradual", *CRITERIA])
def test_every_criterion_gives_nested_masks_of_the_asked_size(name: str) -> None:
    path = prune_path(WEIGHT, EVIDENCE, GRID, [0.25, 0.5, 0.75], PruningMethod(name))
    for found, sparsity in zip(path, [0.25, 0.5, 0.75], strict=True):
        assert found.mask.blocks == GRID.size - removed_blocks(GRID.size, sparsity)
        assert not found.weight[~found.mask.elements()].any()
    for denser, sparser in itertools.pairwise(path):
        assert not (sparser.mask.kept & ~denser.mask.kept).any()


def test_a_named_criterion_decides_which_blocks_stay() -> None:
    (found,) = prune_path(WEIGHT, EVIDENCE, GRID, [0.5], PruningMethod("magnitude"))
    scores = CRITERIA.create("magnitude").scores(WEIGHT, GRID, EVIDENCE)
    np.testing.assert_array_equal(found.mask.kept, keep_best(scores, 0.5))


def test_obs_is_the_gradual_walk() -> None:
    (found,) = prune_path(WEIGHT, EVIDENCE, GRID, [0.5])
    (expected,) = gradual(WEIGHT, EVIDENCE, GRID, [0.5])
    np.testing.assert_array_equal(found.weight, expected.weight)


def test_gradual_ranks_by_energy_after_every_solve() -> None:
    """One round, then another: the second ranks what the first left and re-solved."""
    settings = ReconstructionSettings(step=1.0)
    first, second = prune_path(
        WEIGHT, EVIDENCE, GRID, [0.25, 0.5], PruningMethod("gradual", settings)
    )
    scorer = CRITERIA.create("hessian-diagonal")
    kept = keep_best(scorer.scores(WEIGHT, GRID, EVIDENCE) ** 2 * GRID.weights_per_block(), 0.25)
    np.testing.assert_array_equal(first.mask.kept, kept)
    energy = scorer.scores(first.weight, GRID, EVIDENCE) ** 2 * GRID.weights_per_block()
    np.testing.assert_array_equal(second.mask.kept, keep_best(energy, 0.5))


def test_the_nearest_criterion_is_the_hint() -> None:
    with pytest.raises(UnsupportedError, match="unknown criterion 'magnitud'") as caught:
        prune_path(WEIGHT, EVIDENCE, GRID, [0.5], PruningMethod("magnitud"))
    assert caught.value.hint == "did you mean 'magnitude'?"
