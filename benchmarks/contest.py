"""What search strategies compete on: one model, its options, one evaluation of every plan.

All strategies see the same layer database and the same prices. A plan that one of them had
evaluated is not evaluated again for another, but counts, with the time it took, as if it were.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna._hypervolume import compute_hypervolume  # in public only as a figure

from pruneaug_cli.core import Evaluation, Partial, Plan, pareto_front
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.search import SearchProblem, judged_drops, run_search
from pruneaug_cli.search.engine import measured
from pruneaug_cli.search.strategies.uniform import uniform_plans

COUNTED_DROPS = 2.0
"""Plans that lose more than this many times the largest drop allowed add no hypervolume, and an
evaluation may end where a plan is sure to."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A plan, its predicted latency, what its evaluation said, and how long that took."""

    plan: Plan
    predicted_latency_s: float
    found: Evaluation
    seconds: float

    @property
    def metric(self) -> float:
        """The metric; an estimate, beyond all drops of interest, where the evaluation ended."""
        return self.found.metric

    @property
    def partial(self) -> Partial | None:
        """What was seen where the evaluation ended."""
        return self.found.partial

    @property
    def divergence(self) -> float | None:
        """Of the outputs from the dense model's."""
        return self.found.divergence


class Evaluations:
    """Evaluates every plan once.

    Args:
        problem: prices the plans.
        evaluate: metric of a plan.
        path: keeps what was evaluated, for the next time; None: nowhere. What another problem
            left there is dropped.
    """

    def __init__(
        self,
        problem: SearchProblem,
        evaluate: Callable[[Plan], float | Evaluation],
        path: Path | None,
    ) -> None:
        self._problem, self._evaluate, self._path = problem, evaluate, path
        self._known: dict[Plan, Evaluated] = {}
        header = json.dumps({"problem": problem.fingerprint()})
        lines = path.read_text("utf-8").splitlines() if path and path.is_file() else []
        if lines[:1] == [header]:
            for line in lines[1:]:
                self._remember(json.loads(line))
        elif path is not None:
            path.write_text(f"{header}\n", "utf-8")

    def __call__(self, plan: Plan) -> Evaluated:
        """What is known of the plan, or else what its evaluation says."""
        if plan not in self._known:
            started = time.perf_counter()
            row = {"plan": plan.to_json(), **asdict(measured(self._evaluate(plan)))}
            row["seconds"] = time.perf_counter() - started
            self._remember(row)
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as stream:
                    stream.write(f"{json.dumps(row)}\n")
        return self._known[plan]

    def _remember(self, row: Mapping[str, Any]) -> None:
        plan = Plan.from_json(row["plan"])
        partial = None if row["partial"] is None else Partial(**row["partial"])
        found = Evaluation(row["metric"], row["divergence"], partial)
        latency_s = self._problem.latency_s(plan)
        self._known[plan] = Evaluated(plan, latency_s, found, float(row["seconds"]))


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one strategy did with one seed.

    Attributes:
        trials: its evaluations, in order.
        own_s: seconds of the search itself.
        seconds: with all its evaluations, those known before too.
    """

    trials: tuple[Evaluated, ...]
    own_s: float
    seconds: float


def attempt(
    problem: SearchProblem, evaluations: Evaluations, strategy: str, *, seed: int, trials: int
) -> Attempt:
    """Search with one strategy and one seed.

    Raises:
        UnsupportedError: the strategy does not serve this problem.
    """
    asked: list[Evaluated] = []
    looked_up_s = 0.0

    def evaluate(plan: Plan) -> Evaluation:
        nonlocal looked_up_s
        begun = time.perf_counter()
        asked.append(evaluations(plan))
        looked_up_s += time.perf_counter() - begun
        return asked[-1].found

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pruneaug-") as folder, suppress(BudgetError):
        run_search(
            problem, evaluate, strategy=strategy, storage=f"sqlite:///{folder}/study.db",
            study_name=strategy, trials=trials, seed=seed,
        )  # fmt: skip
    own_s = time.perf_counter() - started - looked_up_s
    return Attempt(tuple(asked), own_s, own_s + sum(trial.seconds for trial in asked))


def best_of(
    problem: SearchProblem, trials: Sequence[Evaluated], max_drop: float
) -> Evaluated | None:
    """The trial of least predicted latency that loses at most ``max_drop``."""
    question = replace(problem, max_drop=max_drop, target_latency_s=None)
    judged = zip(trials, judged_drops(question, trials), strict=True)
    kept = [trial for trial, drop in judged if question.excess_drop(drop) <= 0.0]
    return min(kept, key=lambda trial: trial.predicted_latency_s, default=None)


def all_uniform(problem: SearchProblem, evaluations: Evaluations) -> list[Evaluated]:
    """Every uniform plan, evaluated."""
    ladders = uniform_plans(problem).values()
    return [evaluations(plan) for ladder in ladders for _, plan in ladder]


def evaluations_to_reach(
    problem: SearchProblem, trials: Sequence[Evaluated], goal: Evaluated | None
) -> int | None:
    """After how many evaluations a plan was known that keeps the drop and is as fast; or None."""
    judged = zip(trials, judged_drops(problem, trials), strict=True)
    for number, (trial, drop) in enumerate(judged, 1):
        kept = problem.excess_drop(drop) <= 0.0
        if goal and kept and trial.predicted_latency_s <= goal.predicted_latency_s:
            return number
    return None


def hypervolume(problem: SearchProblem, trials: Sequence[Evaluated]) -> float:
    """Part of the square from (0, 0) to (dense latency, ``COUNTED_DROPS`` drops) dominated.

    Of predicted latencies; a plan better than dense counts as one that loses nothing.
    """
    dense_s = problem.latency_s(Plan.dense(problem.layers))
    most = COUNTED_DROPS * (problem.max_drop or 0.0)
    points = [
        (trial.predicted_latency_s / dense_s, max(problem.drop(trial.metric), 0.0) / most)
        for trial in trials
    ]
    inside = [point for point in points if max(point) < 1.0]
    front = pareto_front(inside, cost=lambda point: point[0], value=lambda point: -point[1])
    if not front:
        return 0.0
    return float(compute_hypervolume(np.array(front), np.ones(2), assume_pareto=True))
