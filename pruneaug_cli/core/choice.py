"""What is chosen for one layer: a block shape and a sparsity, or to stay dense."""

from dataclasses import dataclass
from typing import Self

from pruneaug_cli.core.shapes import BlockShape


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """Block shape and sparsity (fraction of blocks removed) of one layer; ``DENSE`` has none.

    Example:
        >>> str(LayerChoice(BlockShape(8, 1), 0.75)), str(DENSE)
        ('8x1 @ 0.75', 'dense')
    """

    block: BlockShape | None
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.sparsity < 1.0:
            raise ValueError(f"sparsity must be in [0, 1), got {self.sparsity}")
        if (self.block is None) != (self.sparsity == 0.0):
            raise ValueError(f"a block and a sparsity above 0 belong together, got {self!r}")

    def __str__(self) -> str:
        return "dense" if self.block is None else f"{self.block} @ {self.sparsity:g}"

    @property
    def is_dense(self) -> bool:
        """Whether the layer keeps all its weights."""
        return self.block is None

    @property
    def sort_key(self) -> tuple[float, int, int]:
        """Orders choices: dense first, then by sparsity, block rows, block columns."""
        block = self.block or BlockShape(1, 1)
        return (self.sparsity, block.rows, block.cols)

    def to_json(self) -> str | dict[str, object]:
        """``"dense"``, or an object with ``block`` and ``sparsity``."""
        if self.block is None:
            return "dense"
        return {"block": str(self.block), "sparsity": self.sparsity}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: it is neither; the message says what was found.
        """
        if document == "dense":
            return cls(None)
        if not isinstance(document, dict) or document.keys() != {"block", "sparsity"}:
            raise ValueError(
                f"expected 'dense' or an object with block and sparsity, got {document!r}"
            )
        sparsity = document["sparsity"]
        if isinstance(sparsity, bool) or not isinstance(sparsity, int | float):
            raise ValueError(f"sparsity must be a number, got {sparsity!r}")
        return cls(BlockShape.parse(str(document["block"])), float(sparsity))


DENSE = LayerChoice(None)
