"""Which parts of a graph may run as one node: connected, convex, as large as they get.

A set of vertices is convex when no path leaves it and comes back: only then can it be contracted
to one vertex without making a cycle. Vertices are numbers in topological order (every edge goes
up). Greedy: clusters that may be joined are merged while the merged one is convex, so
that at the end no two neighbours could be merged. O(edges * (vertices + edges)) at worst.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

Edge = tuple[int, int]


def convex_clusters(
    successors: Sequence[AbstractSet[int]],
    joins: Sequence[Edge],
) -> list[frozenset[int]]:
    """Partition the vertices into convex clusters, in order of their first vertex.

    Args:
        successors: for each vertex the vertices that need it, all with larger numbers.
        joins: pairs of vertices whose clusters may become one: the ends of an edge, or vertices
            that read the same. Earlier pairs go first.

    Example:
        A chain 0 -> 1 -> 2 in which 0 -> 2 may be joined, but not through 1:

        >>> convex_clusters([{1, 2}, {2}, set()], [(0, 2)])
        [frozenset({0}), frozenset({1}), frozenset({2})]
    """
    clusters = _Clusters(successors)
    merged = True
    while merged:
        merged = False
        for first, second in joins:
            if clusters.can_merge(first, second):
                clusters.merge(first, second)
                merged = True
    return clusters.all()


class _Clusters:
    """A partition of the vertices; each vertex knows its cluster."""

    def __init__(self, successors: Sequence[AbstractSet[int]]) -> None:
        self._successors = successors
        self._of = [frozenset({vertex}) for vertex in range(len(successors))]

    def all(self) -> list[frozenset[int]]:
        return sorted(set(self._of), key=min)

    def merge(self, first: int, second: int) -> None:
        union = self._of[first] | self._of[second]
        for vertex in union:
            self._of[vertex] = union

    def can_merge(self, first: int, second: int) -> bool:
        """Whether the two are different clusters with no way from one to the other but direct."""
        one, other = self._of[first], self._of[second]
        return one is not other and not self._detour(one, other) and not self._detour(other, one)

    def _detour(self, start: frozenset[int], end: frozenset[int]) -> bool:
        """Whether a path leads from one cluster to another through a third."""
        seen = {start}
        waiting = self._next(start) - {start, end}
        while waiting:
            cluster = waiting.pop()
            seen.add(cluster)
            following = self._next(cluster)
            if end in following:
                return True
            waiting |= following - seen
        return False

    def _next(self, cluster: frozenset[int]) -> set[frozenset[int]]:
        return {self._of[after] for vertex in cluster for after in self._successors[vertex]}
