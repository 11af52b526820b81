"""A choice with its price and harm: what a search chooses among."""

from collections.abc import Iterable
from dataclasses import dataclass

from pruneaug_cli.core.choice import LayerChoice


@dataclass(frozen=True, slots=True)
class Option:
    """One choice for one layer.

    Attributes:
        choice: block and sparsity, or dense.
        latency_s: predicted seconds of the layer under this choice.
        harm: what the choice costs in accuracy, as a non-negative additive measure: the
            normalised output error of the layer (0 for dense).
    """

    choice: LayerChoice
    latency_s: float
    harm: float

    def __post_init__(self) -> None:
        if not (self.latency_s >= 0.0 and self.harm >= 0.0):
            raise ValueError(f"latency and harm must be non-negative numbers, got {self!r}")


def undominated(options: Iterable[Option]) -> tuple[Option, ...]:
    """Drop every option for which another is no slower and no more harmful.

    Sorted by latency, fastest first; between equals the first by ``LayerChoice.sort_key`` stays.

    Example:
        >>> from pruneaug_cli.core.choice import DENSE
        >>> [o.latency_s for o in undominated([Option(DENSE, 1, 0), Option(DENSE, 2, 0)])]
        [1]
    """
    front: list[Option] = []
    for option in sorted(options, key=lambda o: (o.latency_s, o.harm, o.choice.sort_key)):
        if not front or option.harm < front[-1].harm:
            front.append(option)
    return tuple(front)
