r"""Pruned weights that change a layer's output least, for a ladder of sparsities.

The harm of pruned weights is the share of the layer's output that they get wrong:

.. math:: \mathrm{harm}(\hat W) =
          \frac{\mathrm{tr}\,(\hat W - W) H (\hat W - W)^T}{\mathrm{tr}\, W H W^T}

:func:`gradual` removes blocks in small rounds, cheapest first, and solves least squares on what is
kept after each. All rows of a block row share their kept columns, so one Cholesky factor serves
them. One walk passes all sparsities asked for; its masks are nested.

Cost: about thirteen rounds to 0.75 at the default step, each with M / r Cholesky factors.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pruneaug_cli.core import BlockGrid, BlockMask, keep_best, removed_blocks
from pruneaug_cli.criteria.evidence import Floats, LayerEvidence
from pruneaug_cli.criteria.harm import output_error
from pruneaug_cli.criteria.solver import Indices, MaskedLeastSquares, diagonal_blocks


@dataclass(frozen=True, slots=True)
class ReconstructionSettings:
    """How a layer is reconstructed.

    Attributes:
        ridge: added to the diagonal of H, as a fraction of its mean. Keeps weights near the dense
            ones where the data say little.
        step: largest share of the remaining blocks that one round removes.
        exact_columns: up to this many columns the saliency uses the inverse of H on the kept
            columns, renewed every round; above it the inverse of the whole H, which costs no
            further factors.
        wide_step: ``step`` for layers of more than ``exact_columns`` columns, whose rounds cost
            most. On ResNet-20 (8x1) both rules together leave 1 to 3% more harm and take half of
            the time (``benchmarks/reconstruct.py``).
        saliency: ``rise``: of the harm, when a block goes alone and the rest is re-solved;
            ``energy``: of the block as it stands, ``tr w_B diag(H) w_Bᵀ``, which knows nothing of
            what the others could take over.
    """

    ridge: float = 1e-2
    step: float = 0.1
    exact_columns: int = 384
    wide_step: float = 0.2
    saliency: Literal["rise", "energy"] = "rise"

    def __post_init__(self) -> None:
        steps = 0.0 < self.step <= 1.0 and 0.0 < self.wide_step <= 1.0
        if not (self.ridge > 0.0 and steps and self.exact_columns >= 0):
            raise ValueError(f"expected ridge > 0, steps in (0, 1], exact_columns >= 0, got {self}")


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """Pruned weights of one layer: ``weight`` (M, K) is zero wherever ``mask`` is not kept."""

    mask: BlockMask
    weight: Floats
    harm: float


def least_squares(
    weight: Floats, second_moment: Floats, mask: BlockMask, *, ridge: float = 1e-2
) -> Floats:
    """Best weights on a given mask.

    Args:
        weight: the dense weights W, shape (M, K).
        second_moment: H, shape (K, K); its precision is the one computed in.
        mask: which blocks are kept.
        ridge: see :class:`ReconstructionSettings`; H below includes it.

    Returns:
        Ŵ (M, K), zero outside the mask, with (Ŵ − W) H[:, S] = 0 for the kept columns S of every
        block row.
    """
    LayerEvidence(second_moment, 1).require(mask.grid.matrix)
    solver = MaskedLeastSquares(weight, second_moment, ridge)
    kept, height = mask.elements(), mask.grid.block.rows
    result = np.zeros_like(solver.weight)
    for top in range(0, mask.grid.matrix.rows, height):
        rows, columns = slice(top, top + height), np.flatnonzero(kept[top])
        result[rows, columns] = solver.solve(rows, columns, np.flatnonzero(~kept[top]))
    return result


def gradual(
    weight: Floats,
    evidence: LayerEvidence,
    grid: BlockGrid,
    sparsities: Sequence[float],
    settings: ReconstructionSettings | None = None,
) -> list[Reconstruction]:
    r"""Prune a layer to every sparsity asked for, in one walk.

    A round removes the blocks B with the least saliency, and moves their work to the others:

    .. math:: s_B = \mathrm{tr}\; w_B \left[ (H_{SS}^{-1})_{BB} \right]^{-1} w_B^T

    which is the exact rise of the harm when B goes alone and the rest of its block row is
    re-solved.

    Args:
        weight: the dense weights W, shape (M, K).
        evidence: second moments of the layer's inputs.
        grid: the blocks.
        sparsities: fractions of blocks to remove, rising.
        settings: see :class:`ReconstructionSettings`.

    Returns:
        One reconstruction per sparsity, in that order: exactly ``floor(sparsity * grid.size)``
        blocks removed, each mask inside the one before. Weights have the precision of the second
        moment; at sparsity 0 they are W.

    Raises:
        ValueError: shapes do not fit, or the sparsities do not rise.

    References:
        Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022, for one row and one block
        at a time; here rounds of many blocks over all block rows, and a fresh solve in place of
        accumulated updates.
    """
    evidence.require(grid.matrix)
    if list(sparsities) != sorted(set(sparsities)):
        raise ValueError(f"sparsities must rise, got {list(sparsities)}")
    walk = _Walk(weight, evidence, grid, settings or ReconstructionSettings())
    found = []
    for sparsity in sparsities:
        walk.remove(removed_blocks(grid.size, sparsity))
        harm = output_error(walk.solver_weight, walk.weight, evidence.second_moment)
        found.append(Reconstruction(BlockMask(grid, walk.kept.copy()), walk.weight, harm))
    return found


class _Walk:
    """The state of a walk from dense to sparse.

    Matrices are padded to whole blocks: columns that do not exist have inputs and weights of zero,
    and the ridge alone on their diagonal, so they touch nothing.
    """

    def __init__(
        self,
        weight: Floats,
        evidence: LayerEvidence,
        grid: BlockGrid,
        settings: ReconstructionSettings,
    ) -> None:
        (gr, gc), block = grid.shape, grid.block
        rows, cols = gr * block.rows, gc * block.cols
        self._grid = grid
        self._solver = MaskedLeastSquares(
            _pad(weight, rows, cols), _pad(evidence.second_moment, cols, cols), settings.ridge
        )
        narrow = cols <= settings.exact_columns
        self._step = settings.step if narrow else settings.wide_step
        self._exact = narrow and settings.saliency == "rise"
        self._stiffness = _stiffness(self._solver, block.cols, settings.saliency)
        self._current = self._solver.weight.copy()
        self._saliency = np.zeros(grid.shape)
        self.kept = np.ones(grid.shape, dtype=np.bool_)
        for index in range(gr):
            self._score(index, np.arange(gc), self._stiffness)

    @property
    def weight(self) -> Floats:
        """A copy of the weights as they are now, shape (M, K)."""
        return self._crop(self._current).copy()

    @property
    def solver_weight(self) -> Floats:
        """The dense weights in the precision computed in, shape (M, K)."""
        return self._crop(self._solver.weight)

    def remove(self, count: int) -> None:
        """Go on, in rounds, until ``count`` blocks are removed."""
        gone = int(np.count_nonzero(~self.kept))
        for removed in _rounds(self._grid.size, gone, count, self._step):
            scores = np.where(self.kept, self._saliency, -1.0)
            kept = keep_best(scores, removed / self._grid.size)
            changed = np.flatnonzero((kept != self.kept).any(axis=1))
            self.kept = kept
            dense = 2 * np.count_nonzero(kept[changed], axis=1) > kept.shape[1]
            together = changed[dense] if not self._exact else changed[:0]
            self._solve_together(together)
            for index in np.setdiff1d(changed, together):
                self._solve(int(index))

    def _solve_together(self, indices: Indices) -> None:
        """As :meth:`_solve`, for block rows that lost less than half: one product for all."""
        height, width = self._grid.block.rows, self._grid.block.cols
        if len(indices) == 0:
            return
        columns = np.repeat(self.kept[indices], width, axis=1)
        spread = np.concatenate(
            [
                self._solver.spread(self._rows(int(index)), np.flatnonzero(~kept))
                for index, kept in zip(indices, columns, strict=True)
            ]
        )
        rows = (indices[:, None] * height + np.arange(height)).reshape(-1)
        change = spread @ self._solver.inverse
        self._current[rows] = (self._solver.weight[rows] - change) * np.repeat(columns, height, 0)
        for index in indices:
            blocks = np.flatnonzero(self.kept[index])
            self._score(int(index), blocks, self._stiffness[blocks])

    def _solve(self, index: int) -> None:
        """Renew the weights of one block row, and the saliency of its blocks."""
        width = self._grid.block.cols
        rows, blocks = self._rows(index), np.flatnonzero(self.kept[index])
        columns = np.repeat(self.kept[index], width)
        kept = np.flatnonzero(columns)
        self._current[rows] = 0.0
        if self._exact and len(kept) > 0:
            weights, inverse = self._solver.solve_with_inverse(rows, kept, width)
            stiffness = np.linalg.inv(inverse)
        else:
            weights = self._solver.solve(rows, kept, np.flatnonzero(~columns))
            stiffness = self._stiffness[blocks]
        self._current[rows, kept] = weights
        self._score(index, blocks, stiffness)

    def _score(self, index: int, blocks: Indices, stiffness: Floats) -> None:
        """Saliency of blocks of one block row; ``stiffness`` (b, c, c) is [(H_SS⁻¹)_BB]⁻¹."""
        block = self._grid.block
        tiles = self._current[self._rows(index)].reshape(block.rows, -1, block.cols)[:, blocks]
        columns = tiles.transpose(1, 2, 0)  # (b, c, r)
        self._saliency[index, blocks] = np.einsum("bcr,bcr->b", columns, stiffness @ columns)

    def _rows(self, index: int) -> slice:
        height = self._grid.block.rows
        return slice(index * height, (index + 1) * height)

    def _crop(self, padded: Floats) -> Floats:
        return padded[: self._grid.matrix.rows, : self._grid.matrix.cols]


def _stiffness(solver: MaskedLeastSquares, width: int, saliency: str) -> Floats:
    """What a block column's weights are weighed by, shape (blocks, width, width)."""
    if saliency == "energy":
        diagonal = np.diagonal(solver.moment).reshape(-1, width)
        weighed: Floats = diagonal[:, :, None] * np.eye(width, dtype=diagonal.dtype)
        return weighed
    return np.linalg.inv(diagonal_blocks(solver.inverse, width))


def _rounds(size: int, gone: int, target: int, step: float) -> Iterator[int]:
    """Blocks removed after each round, up to ``target``; equal shares of what remains."""
    if target <= gone:
        return
    shrink = (size - target) / (size - gone)
    if step < 1.0 and shrink > 0.0:
        count = math.ceil(math.log(shrink) / math.log1p(-step) - 1e-9)
    else:
        count = 1
    last = gone
    for number in range(1, count):
        removed = size - round((size - gone) * shrink ** (number / count))
        if removed > last:
            yield removed
            last = removed
    if target > last:
        yield target


def _pad(matrix: Floats, rows: int, cols: int) -> Floats:
    if matrix.shape == (rows, cols):
        return matrix
    return np.pad(matrix, ((0, rows - matrix.shape[0]), (0, cols - matrix.shape[1])))
