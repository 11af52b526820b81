"""Where plans are evaluated: here, in processes of this machine, or as tasks of a Ray cluster.

The search hands plans out and takes outcomes in; it alone writes to the study. So one machine has
one writer however many workers it has, and a worker that is killed leaves nothing half written.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pruneaug_cli.core import Evaluation, Plan
from pruneaug_cli.errors import MetricError
from pruneaug_cli.registry import Registry
from pruneaug_cli.search.trial import Evaluate

MakeEvaluate = Callable[[], Evaluate]
"""Makes the evaluation inside a worker; travels there, so it must be picklable and light."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan: what was found, or why there is nothing; ``seconds`` it took."""

    plan: Plan
    result: Evaluation | Exception
    seconds: float


class Engine(Protocol):
    """Evaluates up to ``workers`` plans at a time.

    An outcome whose result is :class:`~pruneaug_cli.children.WorkerDiedError` says that the worker
    is lost; the engine has another one, or makes it for the next plan.
    ``tests/conformance/test_engines.py`` checks this for every engine.
    """

    @property
    def workers(self) -> int:
        """How many plans may be in flight."""
        ...

    def submit(self, plan: Plan) -> None:
        """Begin to evaluate a plan; there must be a free worker."""
        ...

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Outcomes there are, waiting for the first as long as ``timeout_s``; maybe none."""
        ...


class Here:
    """Evaluates in this process, one plan at a time. Errors that end a search pass."""

    workers = 1

    def __init__(self, evaluate: Evaluate, clock: Clock = time.monotonic) -> None:
        self._evaluate, self._clock = evaluate, clock
        self._plans: list[Plan] = []

    def submit(self, plan: Plan) -> None:
        """Keep the plan until somebody waits for it."""
        self._plans.append(plan)

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Evaluate what was submitted, however long that takes."""
        del timeout_s
        plan, started = self._plans.pop(), self._clock()
        try:
            result: Evaluation | Exception = measured(self._evaluate(plan))
        except MetricError as error:
            result = error
        return [Outcome(plan, result, self._clock() - started)]


def measured(found: float | Evaluation) -> Evaluation:
    """What an evaluation returned; a number of any kind is the metric."""
    return found if isinstance(found, Evaluation) else Evaluation(float(found))


OpenEngine = Callable[[MakeEvaluate, int], AbstractContextManager[Engine]]
"""Opens an engine of so many workers; closing it ends what is still running."""

ENGINES: Registry[OpenEngine] = Registry(
    "engine",
    {
        "processes": "pruneaug_cli.search.processes:processes_engine",
        "ray": "pruneaug_cli.search.ray_tasks:ray_engine",
    },
)
