"""Trials as Ray tasks: on the cluster ``RAY_ADDRESS`` names or that runs here, or a local one.

Each node needs pruneaug, and the task, the checkpoint and the run's folder under the same paths.
A task is not tried again by Ray: the search knows what to do about a worker that died.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from pruneaug_cli.children import WorkerDiedError
from pruneaug_cli.core import Plan
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.search.engine import MakeEvaluate, OpenEngine, Outcome
from pruneaug_cli.search.worker import Worker


def ray_engine() -> OpenEngine:
    """The engine, to be opened.

    Raises:
        UnsupportedError: Ray is not installed.
    """
    try:
        import ray  # noqa: F401  an extra
    except ImportError as error:
        raise UnsupportedError(
            "the engine 'ray' needs Ray, which is not installed",
            hint="pip install 'pruneaug[ray]'",
        ) from error
    return _opened


@contextmanager
def _opened(make: MakeEvaluate, workers: int) -> Iterator["RayEngine"]:
    import ray

    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, logging_level="ERROR")
    engine = RayEngine(make, workers)
    try:
        yield engine
    finally:
        engine.close()
        if ours:
            ray.shutdown()


class RayEngine:
    """Evaluates each plan as a Ray task.

    Args:
        make: makes the evaluation, once in each of Ray's processes.
        workers: tasks in flight at most; Ray runs as many of them as it has free cores.
    """

    def __init__(self, make: MakeEvaluate, workers: int) -> None:
        import ray

        self.workers = workers
        self._task = ray.remote(max_retries=0)(_outcome)
        self._search, self._make = uuid.uuid4().hex, ray.put(make)
        self._flying: dict[Any, Plan] = {}

    def submit(self, plan: Plan) -> None:
        """Begin a task."""
        self._flying[self._task.remote(self._search, [self._make], plan)] = plan

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Outcomes of tasks that are done, or whose process died."""
        import ray

        some, _ = ray.wait(list(self._flying), timeout=timeout_s)
        ready = some and ray.wait(list(self._flying), num_returns=len(self._flying), timeout=0)[0]
        return [self._collect(one) for one in ready]

    def close(self) -> None:
        """Cancel what is in flight, whatever it does."""
        import ray

        for task in self._flying:
            ray.cancel(task, force=True)
        self._flying.clear()

    def _collect(self, task: Any) -> Outcome:
        import ray

        plan = self._flying.pop(task)
        try:
            outcome: Outcome = ray.get(task)
        except ray.exceptions.RayError as error:  # the task itself raises nothing
            return Outcome(plan, WorkerDiedError(str(error).splitlines()[0]), 0.0)
        return outcome


def _outcome(search: str, made_by: list[Any], plan: Plan) -> Outcome:
    """What Ray runs. The maker comes as a reference in a list, and is fetched once."""
    return _worker(search, made_by[0]).outcome(plan)


@lru_cache(maxsize=1)
def _worker(search: str, made_by: Any) -> Worker:
    import ray

    del search  # of another search the worker is another
    return Worker(ray.get(made_by))
