"""Laws of the block algebra, for matrices and blocks nobody chose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruneaug_cli.core import (
    BlockGrid,
    BlockMask,
    BlockShape,
    BsrMatrix,
    MatrixShape,
    keep_best,
    removed_blocks,
)

SIDES = st.integers(1, 23)


@st.composite
def masked_weights(draw: st.DrawFn) -> tuple[np.ndarray, BlockMask]:
    matrix = MatrixShape(draw(SIDES), draw(SIDES))
    grid = BlockGrid(matrix, BlockShape(draw(st.integers(1, 9)), draw(st.integers(1, 9))))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((matrix.rows, matrix.cols), dtype=np.float32)
    density = draw(st.sampled_from([0.0, 0.3, 1.0]))
    return weight, BlockMask(grid, rng.random(grid.shape) < density)


@given(masked_weights())
def test_packing_keeps_exactly_the_masked_weight(case: tuple[np.ndarray, BlockMask]) -> None:
    weight, mask = case
    np.testing.assert_array_equal(BsrMatrix.pack(weight, mask).unpack(), mask.apply(weight))


@given(masked_weights())
def test_a_mask_survives_its_bits(case: tuple[np.ndarray, BlockMask]) -> None:
    _, mask = case
    bits = mask.pack_bits()
    assert bits.size == -(-mask.grid.size // 8)
    np.testing.assert_array_equal(BlockMask.unpack_bits(mask.grid, bits).kept, mask.kept)


@given(masked_weights())
def test_masking_twice_is_masking_once(case: tuple[np.ndarray, BlockMask]) -> None:
    weight, mask = case
    once = mask.apply(weight)
    np.testing.assert_array_equal(mask.apply(once), once)


@given(masked_weights())
def test_the_overhang_counts_as_no_weights(case: tuple[np.ndarray, BlockMask]) -> None:
    weight, mask = case
    assert mask.grid.weights_per_block().sum() == weight.size
    assert mask.weights == mask.elements().sum()


@given(masked_weights())
def test_block_sums_add_up_to_the_matrix(case: tuple[np.ndarray, BlockMask]) -> None:
    weight, mask = case
    sums = mask.grid.block_sums(weight)
    assert sums.shape == mask.grid.shape
    # n additions in float64: error <= n * eps * sum |w|
    bound = weight.size * np.finfo(np.float64).eps * np.abs(weight).sum() + 1e-30
    assert abs(sums.sum() - weight.sum(dtype=np.float64)) <= bound


@given(masked_weights(), st.floats(0, 0.99))
def test_exactly_the_asked_number_of_blocks_goes(
    case: tuple[np.ndarray, BlockMask], sparsity: float
) -> None:
    weight, mask = case
    scores = mask.grid.block_sums(np.abs(weight))
    kept = keep_best(scores, sparsity)
    assert np.count_nonzero(~kept) == removed_blocks(scores.size, sparsity)
    if kept.any() and not kept.all():
        assert scores[kept].min() >= scores[~kept].max()


@pytest.mark.parametrize("tenths", range(10))
def test_binary_fractions_do_not_lose_a_block(tenths: int) -> None:
    assert removed_blocks(10, tenths / 10) == tenths


def test_between_equal_scores_the_earlier_block_stays() -> None:
    kept = keep_best(np.zeros((2, 3)), 0.5)
    np.testing.assert_array_equal(kept, [[True, True, True], [False, False, False]])
