"""The Pareto front of points that are priced twice."""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def pareto_front(
    points: Iterable[T], *, cost: Callable[[T], float], value: Callable[[T], float]
) -> list[T]:
    """Points for which no other is at most as costly and at least as valuable.

    Sorted by cost, cheapest first; between equal points the first given stays.

    Example:
        >>> pareto_front([(1, 5), (2, 4), (3, 6)], cost=lambda p: p[0], value=lambda p: p[1])
        [(1, 5), (3, 6)]
    """
    front: list[T] = []
    for point in sorted(points, key=lambda p: (cost(p), -value(p))):
        if not front or value(point) > value(front[-1]):
            front.append(point)
    return front
