"""The shape of a matrix and of a block, and how both are written: rows x columns."""

import re
from dataclasses import dataclass
from typing import Self

_SHAPE = re.compile(r"([1-9]\d{0,6})x([1-9]\d{0,6})")


@dataclass(frozen=True, slots=True, order=True)
class MatrixShape:
    """Rows (outputs, M) and columns (products summed per output, K) of a weight matrix."""

    rows: int
    cols: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise ValueError(f"a matrix needs at least one row and column, got {self}")

    def __str__(self) -> str:
        return f"{self.rows}x{self.cols}"

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.rows * self.cols


@dataclass(frozen=True, slots=True, order=True)
class BlockShape:
    """Rows and columns of the blocks that are kept or removed whole; written ``8x1``.

    Example:
        >>> BlockShape.parse("8x1")
        BlockShape(rows=8, cols=1)
        >>> str(BlockShape(4, 8))
        '4x8'
    """

    rows: int
    cols: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise ValueError(f"a block needs at least one row and column, got {self}")

    def __str__(self) -> str:
        return f"{self.rows}x{self.cols}"

    @property
    def size(self) -> int:
        """Number of weights in a block that does not hang over an edge."""
        return self.rows * self.cols

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"4x8"`` as 4 rows by 8 columns.

        Raises:
            ValueError: the text is not ROWSxCOLS with positive numbers.
        """
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ValueError(f"expected ROWSxCOLS such as 8x1, got {text!r}")
        return cls(int(match[1]), int(match[2]))
