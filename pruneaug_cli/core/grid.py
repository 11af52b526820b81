"""How blocks of one shape cover one matrix; sums over blocks and back."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core.shapes import BlockShape, MatrixShape

FloatMatrix = npt.NDArray[np.float32] | npt.NDArray[np.float64]
BoolMatrix = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """How blocks of one shape cover one matrix.

    With a matrix of R rows and C columns and blocks of r by c, the grid has ceil(R / r) block
    rows and ceil(C / c) block columns. Blocks on the bottom and right edges may hang over; the
    overhang counts as zeros, and never as weights removed.

    Example:
        >>> grid = BlockGrid(MatrixShape(5, 4), BlockShape(4, 1))
        >>> grid.shape
        (2, 4)
        >>> grid.weights_per_block()[:, 0]
        array([4, 1])
    """

    matrix: MatrixShape
    block: BlockShape

    @property
    def shape(self) -> tuple[int, int]:
        """Block rows and block columns."""
        return (-(-self.matrix.rows // self.block.rows), -(-self.matrix.cols // self.block.cols))

    @property
    def size(self) -> int:
        """Number of blocks."""
        rows, cols = self.shape
        return rows * cols

    def weights_per_block(self) -> npt.NDArray[np.int64]:
        """Real weights under each block (overhang not counted), shape ``self.shape``."""
        heights = np.diff(
            np.append(np.arange(0, self.matrix.rows, self.block.rows), self.matrix.rows)
        )
        widths = np.diff(
            np.append(np.arange(0, self.matrix.cols, self.block.cols), self.matrix.cols)
        )
        return np.multiply.outer(heights, widths)

    def block_sums(self, values: FloatMatrix) -> npt.NDArray[np.float64]:
        """Sum ``values`` (R, C) over every block, in float64; shape ``self.shape``."""
        self._require_matrix(values.shape)
        by_row = np.add.reduceat(
            values, np.arange(0, self.matrix.rows, self.block.rows), axis=0, dtype=np.float64
        )
        return np.add.reduceat(by_row, np.arange(0, self.matrix.cols, self.block.cols), axis=1)

    def expand(self, per_block: npt.NDArray[np.bool_]) -> BoolMatrix:
        """Give every element (R, C) the value of its block."""
        if per_block.shape != self.shape:
            raise ValueError(f"expected one value per block {self.shape}, got {per_block.shape}")
        tall = np.repeat(per_block, self.block.rows, axis=0)[: self.matrix.rows]
        return np.repeat(tall, self.block.cols, axis=1)[:, : self.matrix.cols]

    def _require_matrix(self, shape: tuple[int, ...]) -> None:
        if shape != (self.matrix.rows, self.matrix.cols):
            raise ValueError(f"expected a {self.matrix} matrix, got shape {shape}")
