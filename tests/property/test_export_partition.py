"""Convex clusters: a partition that can be contracted without a cycle, and no coarser one can."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pruneaug_cli.export.partition import Edge, convex_clusters

Graph = tuple[list[set[int]], list[Edge]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A random graph with edges upwards; some of them, and some other pairs, may be joined."""
    size = draw(st.integers(1, 9))
    pairs = [(low, high) for low in range(size) for high in range(low + 1, size)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    joins = [pair for pair in pairs if draw(st.integers(0, 3)) > (0 if pair in edges else 2)]
    successors: list[set[int]] = [set() for _ in range(size)]
    for low, high in edges:
        successors[low].add(high)
    return successors, sorted(joins)


def _contracted(successors: list[set[int]], clusters: list[frozenset[int]]) -> list[set[int]]:
    of = {vertex: number for number, cluster in enumerate(clusters) for vertex in cluster}
    return [
        {of[after] for vertex in cluster for after in successors[vertex]} - {number}
        for number, cluster in enumerate(clusters)
    ]


def _has_cycle(successors: list[set[int]]) -> bool:
    """Kahn: vertices without predecessors can be taken away until none is left, or one cannot."""
    left = set(range(len(successors)))
    while left:
        heads = {after for vertex in left for after in successors[vertex]}
        free = left - heads
        if not free:
            return True
        left -= free
    return False


@given(graphs())
def test_clusters_partition_the_graph_and_contract_without_a_cycle(graph: Graph) -> None:
    successors, joins = graph
    clusters = convex_clusters(successors, joins)
    assert sorted(vertex for cluster in clusters for vertex in cluster) == list(
        range(len(successors))
    )
    assert all(min(first) < min(second) for first, second in pairwise(clusters))
    assert not _has_cycle(_contracted(successors, clusters))


@given(graphs())
def test_no_two_joinable_neighbours_could_still_be_merged(graph: Graph) -> None:
    successors, joins = graph
    clusters = convex_clusters(successors, joins)
    for low, high in joins:
        first = next(cluster for cluster in clusters if low in cluster)
        second = next(cluster for cluster in clusters if high in cluster)
        if first != second:
            rest = [cluster for cluster in clusters if cluster not in (first, second)]
            assert _has_cycle(_contracted(successors, [*rest, first | second]))
