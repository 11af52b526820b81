"""What a strategy is: it proposes the next plan from what is known so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pruneaug_cli.core import Plan
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.trial import Parameters, Trial


@dataclass(frozen=True, slots=True)
class Real:
    """A parameter between two numbers, ends included; ``log``: even in its logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True)
class Category:
    """A parameter that is one of several words."""

    words: tuple[str, ...]


Space = Mapping[str, Real | Category]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan to evaluate, the step that proposed it, and where it lies in the strategy's space."""

    plan: Plan
    origin: str
    parameters: Parameters = field(default_factory=dict)


class Draw(Protocol):
    """The only source of chance a strategy has, fresh for every proposal.

    Two draws of one search are independent; the same draw of two searches with the same seed,
    after equally many completed trials, is the same.
    """

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers."""
        ...

    @property
    def attempt(self) -> int:
        """How often the strategy was asked already since the last new plan."""
        ...

    def uniformly(self, space: Space) -> Parameters:
        """A random point of ``space``."""
        ...

    def tpe(self, space: Space, problem: SearchProblem, trials: Sequence[Trial]) -> Parameters:
        """The point that a tree-structured Parzen estimator suggests after ``trials``.

        It minimises ``problem.cost`` under ``problem.excess <= 0``, and learns from the trials
        that have a place in ``space``.
        """
        ...

    def nsga2(self, space: Space, problem: SearchProblem, trials: Sequence[Trial]) -> Parameters:
        """The child that NSGA-II breeds from ``trials``, those that have a place in ``space``.

        It minimises latency and drop, under ``problem.excess <= 0``.
        """
        ...


class Strategy(Protocol):
    """Proposes plans, one after the other.

    A proposal is a function of its arguments alone: a strategy keeps nothing between calls but
    what it can compute again. So an interrupted search goes on as if nothing had happened. Plans
    name every layer of the problem and only choices it has. ``tests/conformance/
    test_strategies.py`` checks this for every registered strategy.

    Not promised: that a plan is new. The search asks again, with another draw, when it is not.
    """

    def space(self, problem: SearchProblem) -> Space:
        """Every parameter that a proposal may carry."""
        ...

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """The next plan after ``trials``, or None when there is nothing left to try."""
        ...
