"""What a plan counts as losing, and what it can be expected to lose on other samples.

The best of many plans has had luck with the samples that its metric was measured on. How far its
outputs are from the dense model's, its divergence, is hardly a matter of luck; so what all plans of
a divergence lose on average (:mod:`~pruneaug_cli.search.line`) is a better guess of what this one
loses on data like the search's. A *cautious* search counts whichever is more.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pruneaug_cli.core import Partial
from pruneaug_cli.search.line import fit_line
from pruneaug_cli.search.problem import SearchProblem

TELLING = 8
"""So many trials with a divergence tell what plans lose on average."""


class Measured(Protocol):
    """What is known of an evaluated plan; the same as of a trial (``trial.py``)."""

    @property
    def predicted_latency_s(self) -> float:
        """Seconds."""

    @property
    def metric(self) -> float:
        """In the task's unit; an estimate where the evaluation ended early."""

    @property
    def partial(self) -> Partial | None:
        """What was seen where it ended early."""

    @property
    def divergence(self) -> float | None:
        """Of the outputs from the dense model's; None: not measured."""


def judged_drops(problem: SearchProblem, trials: Sequence[Measured]) -> list[float]:
    """What each trial counts as losing: the drop measured, or the one expected if that is more.

    The second only where the problem is cautious, and where enough trials tell it.
    """
    measured = [problem.drop(trial.metric) for trial in trials]
    if not problem.cautious:
        return measured
    expected = expected_drops(problem, trials)
    return [m if e is None else max(m, e) for m, e in zip(measured, expected, strict=True)]


def expected_drops(problem: SearchProblem, trials: Sequence[Measured]) -> list[float | None]:
    """What each trial can be expected to lose on other data, judged by its divergence.

    None without a divergence, and for all as long as too few trials have one.
    """
    known = [trial for trial in trials if trial.divergence is not None]
    if len(known) < TELLING:
        return [None] * len(trials)
    signals = np.array([trial.divergence for trial in known], np.float64)
    drops = np.array([problem.drop(trial.metric) for trial in known])
    line = fit_line(signals, drops, reference_drop(problem, trials))
    expected = iter(line(signals).tolist())
    return [None if trial.divergence is None else next(expected) for trial in trials]


def reference_drop(problem: SearchProblem, trials: Sequence[Measured]) -> float:
    """The drop the search is about, positive: the largest allowed, or else the least in reach."""
    smallest = max(1e-3 * abs(problem.dense_metric), 1e-9)
    if problem.target_latency_s is None and problem.max_drop is not None:
        return max(problem.max_drop, smallest)
    within = [
        problem.drop(trial.metric)
        for trial in trials
        if trial.partial is None and problem.excess(trial.predicted_latency_s, 0.0) <= 0.0
    ]
    return max(min(within, default=smallest), smallest)
