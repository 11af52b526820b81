"""Which measurements a sweep takes, and in which order.

A *cell* is one geometry under one choice. First come the cells no profile is complete without:
every geometry dense, and the lowest and highest sparsity of each of its blocks; between these a
latency table can interpolate. Then the sparsities in between, halving the gaps: all geometries
get the middle one before any gets the next, so that a budget that runs out leaves an even profile.

The default blocks are tall and one column wide. On an AVX-512 core at 90% sparsity, 2x1 takes 1.6
to 2.1 times as long as 4x1; 8x4 is within 15% of 8x1 and removes weights in larger pieces; 32x1 is
the fastest on linear layers with many rows (768x768, 128 rows: 0.64 of 8x1) and no slower
elsewhere. The default sparsities are dense where harm and price bend; from the lowest to the next
price is taken as a line: at 30% it was off by 2 to 6% (medians of four profiles of the layers of
CIFAR's ResNets, 28 pairs of layer and block each; 8 to 24% at most), no more than a line from 50
to 80% is off at 70%.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pruneaug_cli.core import DENSE, BlockShape, Geometry, LayerChoice

DEFAULT_BLOCKS = tuple(map(BlockShape.parse, ("4x1", "8x1", "16x1", "32x1")))
DEFAULT_SPARSITIES = (0.1, 0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure."""

    geometry: Geometry
    choice: LayerChoice

    def __str__(self) -> str:
        return f"{self.choice} on {self.geometry}"


@dataclass(frozen=True, slots=True)
class Cells:
    """What to measure, each part in order."""

    essential: tuple[Cell, ...]
    refining: tuple[Cell, ...]


def plan_cells(
    geometries: Sequence[Geometry],
    blocks: Sequence[BlockShape],
    sparsities: Sequence[float],
    *,
    serves: Callable[[Geometry, BlockShape], bool],
) -> Cells:
    """Order the cells of a sweep.

    Args:
        geometries: repeated ones count once.
        blocks: repeated ones count once.
        sparsities: fractions above 0; the dense cell is always there.
        serves: whether the back end has a kernel for a pair.
    """
    ordered = sorted(set(sparsities))
    pairs = [
        (geometry, block)
        for geometry in dict.fromkeys(geometries)
        for block in dict.fromkeys(blocks)
        if serves(geometry, block)
    ]
    essential = [Cell(geometry, DENSE) for geometry in dict.fromkeys(geometries)]
    for geometry, block in pairs:
        ends = dict.fromkeys((*ordered[:1], *ordered[-1:]))
        essential += [Cell(geometry, LayerChoice(block, sparsity)) for sparsity in ends]
    refining = [
        Cell(geometry, LayerChoice(block, sparsity))
        for sparsity in halving_order(ordered[1:-1])
        for geometry, block in pairs
    ]
    return Cells(tuple(essential), tuple(refining))


def halving_order(values: Sequence[float]) -> list[float]:
    """The middle first, then the middles of the halves, and so on.

    Example:
        >>> halving_order([1.0, 2.0, 3.0, 4.0, 5.0])
        [3.0, 1.0, 4.0, 2.0, 5.0]
    """
    order: list[float] = []
    parts = [list(values)]
    while parts:
        part = parts.pop(0)
        if part:
            middle = (len(part) - 1) // 2
            order.append(part[middle])
            parts += [part[:middle], part[middle + 1 :]]
    return order
