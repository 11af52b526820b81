"""Workers on this machine: one process each, started with the first plans, kept for the next."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from pruneaug_cli.children import Children
from pruneaug_cli.core import Plan
from pruneaug_cli.search.engine import MakeEvaluate, OpenEngine, Outcome
from pruneaug_cli.search.worker import Worker


def processes_engine() -> OpenEngine:
    """The engine, to be opened."""
    return _opened


@contextmanager
def _opened(make: MakeEvaluate, workers: int) -> Iterator["ProcessEngine"]:
    engine = ProcessEngine(make, workers)
    try:
        yield engine
    finally:
        engine.close()


class ProcessEngine:
    """Evaluates each plan in a process of its own.

    Args:
        make: makes the evaluation in a worker.
        workers: processes at most.
    """

    def __init__(self, make: MakeEvaluate, workers: int) -> None:
        self.workers = workers
        self._children: Children[Plan, Outcome] = Children(partial(_outcomes, make))

    def submit(self, plan: Plan) -> None:
        """Give the plan to a worker without one, or to a new one."""
        self._children.submit(plan)

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Outcomes of the workers that have one, or that died."""
        return [
            Outcome(plan, found, 0.0) if isinstance(found, Exception) else found
            for plan, found in self._children.wait(timeout_s)
        ]

    def close(self) -> None:
        """End all workers, whatever they do."""
        self._children.close()


def _outcomes(make: MakeEvaluate) -> Callable[[Plan], Outcome]:
    return Worker(make).outcome
