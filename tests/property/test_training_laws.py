"""Laws of masks and of the penalty on matrices nobody chose."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, MatrixShape
from pruneaug_cli.training.masking import WeightMasks, masks_by_magnitude
from pruneaug_cli.training.penalty import block_norms
from pruneaug_cli.training.schedule import Timetable, lr_factor

sizes = st.integers(1, 9)


@st.composite
def masked_layers(draw: st.DrawFn) -> tuple[nn.Linear, BlockMask]:
    grid = BlockGrid(MatrixShape(draw(sizes), draw(sizes)), BlockShape(draw(sizes), draw(sizes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kept = rng.random(grid.shape) < draw(st.floats(0, 1))
    kept[0, 0] = True  # a plan never removes all blocks
    layer = nn.Linear(grid.matrix.cols, grid.matrix.rows)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.standard_normal(layer.weight.shape)))
    return layer, BlockMask(grid, kept)


@given(masked_layers())
def test_applying_masks_is_what_the_mask_says(case: tuple[nn.Linear, BlockMask]) -> None:
    layer, mask = case
    expected = mask.apply(layer.weight.detach().numpy().copy())
    masks = WeightMasks(nn.Sequential(layer), {"0": mask})
    for _ in range(2):  # applying twice is applying once
        masks.apply()
        np.testing.assert_array_equal(layer.weight.detach().numpy(), expected)


@given(masked_layers())
def test_masks_by_magnitude_keep_as_many_blocks_and_the_largest(
    case: tuple[nn.Linear, BlockMask],
) -> None:
    layer, mask = case
    chosen = masks_by_magnitude(nn.Sequential(layer), {"0": mask})["0"]
    assert chosen.blocks == mask.blocks
    energy = mask.grid.block_sums(layer.weight.detach().double().numpy() ** 2)
    mean = energy / mask.grid.weights_per_block()
    removed = mean[~chosen.kept]
    assert removed.size == 0 or removed.max() <= mean[chosen.kept].min()


@given(masked_layers())
def test_block_norms_are_the_roots_of_block_sums(case: tuple[nn.Linear, BlockMask]) -> None:
    layer, mask = case
    energy = mask.grid.block_sums(layer.weight.detach().double().numpy() ** 2)
    norms = block_norms(layer.weight.double(), mask.grid)
    np.testing.assert_allclose(norms.detach().numpy(), np.sqrt(energy), rtol=1e-12)


@given(st.floats(0, 1), st.floats(0, 0.99))
def test_the_learning_rate_stays_between_zero_and_its_highest(
    progress: float, warmup: float
) -> None:
    assert 0.0 <= lr_factor(progress, warmup) <= 1.0


@given(st.integers(0, 9), st.integers(1, 9), st.floats(0.1, 100), st.floats(0.1, 10))
def test_a_budget_shortens_phases_and_never_lengthens_them(
    penalty: int, retraining: int, budget_s: float, epoch_s: float
) -> None:
    """Played through with epochs of equal length: over the budget by at most one epoch that was
    in flight and the one of retraining that always runs."""
    table = Timetable(penalty, retraining, budget_s)
    spent_s, last_s, counts = 0.0, None, {"penalty": 0, "retraining": 0}
    for phase in counts:
        while table.epochs_left(phase, counts[phase], spent_s=spent_s, epoch_s=last_s):
            counts[phase] += 1
            spent_s, last_s = spent_s + epoch_s, epoch_s
    assert counts["penalty"] <= penalty
    assert 1 <= counts["retraining"] <= retraining
    assert spent_s <= max(budget_s, 2 * epoch_s) + 1e-6
