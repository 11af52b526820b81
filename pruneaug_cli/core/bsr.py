"""Block compressed rows: the weights of the blocks that stay, and a mask that says where."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core.grid import BlockGrid, FloatMatrix
from pruneaug_cli.core.mask import BlockMask


@dataclass(frozen=True, slots=True, eq=False)
class BsrMatrix:
    """A block-sparse float32 matrix.

    ``values`` has shape (blocks kept, r, c): the kept blocks in row-major order of the grid, each
    block row-major, the overhang filled with zeros.
    """

    mask: BlockMask
    values: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        block = self.mask.grid.block
        expected = (self.mask.blocks, block.rows, block.cols)
        if self.values.shape != expected or self.values.dtype != np.float32:
            raise ValueError(
                f"expected float32 values of shape {expected}, "
                f"got {self.values.dtype} of shape {self.values.shape}"
            )

    @property
    def grid(self) -> BlockGrid:
        """The grid of the mask."""
        return self.mask.grid

    @classmethod
    def pack(cls, weight: FloatMatrix, mask: BlockMask) -> "BsrMatrix":
        """Keep the blocks of ``weight`` (R, C) that the mask keeps."""
        grid = mask.grid
        if weight.shape != (grid.matrix.rows, grid.matrix.cols):
            raise ValueError(f"expected a {grid.matrix} matrix, got shape {weight.shape}")
        tiles = _tiles(np.asarray(weight, dtype=np.float32), grid)
        return cls(mask, np.ascontiguousarray(tiles[mask.kept]))

    def unpack(self) -> npt.NDArray[np.float32]:
        """The dense matrix (R, C), zeros where blocks were removed."""
        grid = self.grid
        (gr, gc), block = grid.shape, grid.block
        tiles = np.zeros((gr, gc, block.rows, block.cols), dtype=np.float32)
        tiles[self.mask.kept] = self.values
        full = tiles.transpose(0, 2, 1, 3).reshape(gr * block.rows, gc * block.cols)
        return np.ascontiguousarray(full[: grid.matrix.rows, : grid.matrix.cols])


def _tiles(weight: npt.NDArray[np.float32], grid: BlockGrid) -> npt.NDArray[np.float32]:
    """View (R, C) as (block rows, block columns, r, c), padded with zeros at the edges."""
    (gr, gc), block = grid.shape, grid.block
    full = np.zeros((gr * block.rows, gc * block.cols), dtype=np.float32)
    full[: grid.matrix.rows, : grid.matrix.cols] = weight
    return full.reshape(gr, block.rows, gc, block.cols).transpose(0, 2, 1, 3)
