"""Greedy: from the dense plan, always the step that costs least harm per second it saves.

A step moves one layer to a faster option. The best step of a layer is the next corner of the lower
convex hull of its (latency, harm) points, so the whole way from the dense to the fastest plan is
the hulls' edges, merged by slope. It solves the continuous relaxation of the knapsack: what it
loses against the exact one is at most one step at each budget.

References:
    Kellerer, Pferschy and Pisinger, "Knapsack Problems", Springer, 2004, section 11.2.1.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from heapq import merge
from itertools import pairwise

from pruneaug_cli.core import LayerChoice, Option, Plan
from pruneaug_cli.search.problem import SearchProblem, cut
from pruneaug_cli.search.strategies.contract import Draw, Proposal, Space
from pruneaug_cli.search.strategies.path import Priced, next_on_path, path_of
from pruneaug_cli.search.trial import Trial

GREEDY = "greedy"


class GreedyStrategy:
    """Finds where on the greedy way from dense to fastest the constraint binds."""

    def space(self, problem: SearchProblem) -> Space:
        """No parameters."""
        del problem
        return {}

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """The next plan on the way."""
        del draw
        plan = next_on_path(problem, greedy_path(problem), trials)
        return None if plan is None else Proposal(plan, GREEDY)


@lru_cache(maxsize=1)
def greedy_path(problem: SearchProblem) -> tuple[Priced, ...]:
    """Every plan between two steps, fastest first."""
    choices = {layer: corners(row)[0].choice for layer, row in cut(problem).items()}
    plans = [Plan.of(choices)]
    edges = [list(_edges(layer, row)) for layer, row in cut(problem).items()]
    for _, layer, choice in merge(*edges, key=lambda edge: edge[0]):
        choices[layer] = choice
        plans.append(Plan.of(choices))
    return path_of(problem, plans)


def corners(options: Sequence[Option]) -> list[Option]:
    """The lower convex hull of undominated options, from the least harmful to the fastest.

    Example:
        >>> from pruneaug_cli.core import DENSE, BlockShape
        >>> def option(sparsity, latency_s, harm):
        ...     return Option(LayerChoice(BlockShape(8, 1), sparsity), latency_s, harm)
        >>> row = [option(0.9, 1.0, 8.0), option(0.5, 2.0, 7.0), Option(DENSE, 3.0, 0.0)]
        >>> [point.latency_s for point in corners(row)]
        [3.0, 1.0]
    """
    hull: list[Option] = []
    for option in sorted(options, key=lambda option: (-option.latency_s, option.harm)):
        while len(hull) > 1 and _slope(hull[-2], option) < _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return hull


def _edges(layer: str, options: Sequence[Option]) -> Iterator[tuple[float, str, LayerChoice]]:
    """Steps of a layer, gentlest first: harm per second saved, and where the step leads."""
    hull = corners(options)
    for before, after in pairwise(hull):
        yield _slope(before, after), layer, after.choice


def _slope(before: Option, after: Option) -> float:
    return (after.harm - before.harm) / (before.latency_s - after.latency_s)
