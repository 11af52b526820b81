"""Which blocks of a matrix stay."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core.grid import BlockGrid, BoolMatrix, FloatMatrix


@dataclass(frozen=True, slots=True, eq=False)
class BlockMask:
    """The blocks of a grid that stay: ``kept`` is True there; shape ``grid.shape``."""

    grid: BlockGrid
    kept: BoolMatrix

    def __post_init__(self) -> None:
        if self.kept.shape != self.grid.shape or self.kept.dtype != np.bool_:
            raise ValueError(
                f"expected booleans of shape {self.grid.shape}, "
                f"got {self.kept.dtype} of shape {self.kept.shape}"
            )

    @property
    def sparsity(self) -> float:
        """Fraction of blocks removed, in [0, 1]."""
        return 1.0 - self.blocks / self.grid.size

    @property
    def blocks(self) -> int:
        """Number of blocks that stay."""
        return int(np.count_nonzero(self.kept))

    @property
    def weights(self) -> int:
        """Number of real weights that stay (overhang not counted)."""
        return int(self.grid.weights_per_block()[self.kept].sum())

    def elements(self) -> BoolMatrix:
        """True for every weight that stays, shape (R, C)."""
        return self.grid.expand(self.kept)

    def apply(self, weight: FloatMatrix) -> FloatMatrix:
        """Return a copy of ``weight`` (R, C) with the removed blocks set to zero."""
        return np.where(self.elements(), weight, np.zeros((), weight.dtype))

    def pack_bits(self) -> npt.NDArray[np.uint8]:
        """One bit per block, row-major, the first in the highest bit: ceil(grid.size / 8) bytes.

        The last byte is padded with zeros.
        """
        return np.packbits(self.kept.reshape(-1))

    @classmethod
    def unpack_bits(cls, grid: BlockGrid, bits: npt.NDArray[np.uint8]) -> "BlockMask":
        """Read what :meth:`pack_bits` wrote.

        Raises:
            ValueError: the number of bytes is not that of the grid, or a padding bit is set.
        """
        expected = -(-grid.size // 8)
        if bits.shape != (expected,):
            raise ValueError(
                f"a mask of {grid.size} blocks takes {expected} bytes, got {bits.size}"
            )
        flat = np.unpackbits(bits)
        if flat[grid.size :].any():
            raise ValueError("padding bits of a mask must be zero")
        return cls(grid, flat[: grid.size].astype(np.bool_).reshape(grid.shape))


def removed_blocks(blocks: int, sparsity: float) -> int:
    """How many of ``blocks`` go at this sparsity: the floor, robust to binary fractions.

    Example:
        >>> removed_blocks(10, 0.7), removed_blocks(3, 0.5)
        (7, 1)
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity}")
    # 0.7 * 10 is 6.999… in binary: a relative nudge far below one block keeps the meaning
    return int(np.floor(sparsity * blocks * (1.0 + 1e-12)))


def keep_best(scores: FloatMatrix, sparsity: float) -> BoolMatrix:
    """Keep the blocks with the highest scores.

    Exactly ``floor(sparsity * scores.size)`` blocks are removed. Between equal scores the earlier
    block in row-major order stays, so the result does not depend on the sorting routine.

    Example:
        >>> keep_best(np.array([[3.0, 1.0], [2.0, 1.0]]), sparsity=0.5)
        array([[ True, False],
               [ True, False]])
    """
    removed = removed_blocks(scores.size, sparsity)
    kept = np.ones(scores.size, dtype=np.bool_)
    # a stable ascending sort of the reversed scores puts later equals first
    order = scores.size - 1 - np.argsort(scores.reshape(-1)[::-1], kind="stable")
    kept[order[:removed]] = False
    return kept.reshape(scores.shape)
