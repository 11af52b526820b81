"""Workers on this machine: one process each, started with the first plans, kept for the next.

Processes are spawned, not forked: threads of torch and BLAS do not survive a fork. A worker ends
when its connection to the search does, and at once when the search's process is gone. It ignores
Ctrl-C, which a terminal sends to everybody: the search decides what happens then.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait

from pruneaug_cli.children import end_with_parent
from pruneaug_cli.core import Plan
from pruneaug_cli.search.engine import MakeEvaluate, OpenEngine, Outcome, WorkerDiedError
from pruneaug_cli.search.interrupts import interrupts_deferred
from pruneaug_cli.search.worker import Worker

_PATIENCE_S = 1.0  # for a process that is about to end by itself


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
    """Evaluates each plan in a process of its own; see the module.

    Args:
        make: makes the evaluation in a worker.
        workers: processes at most.
    """

    def __init__(self, make: MakeEvaluate, workers: int) -> None:
        self.workers = workers
        self._make = make
        self._idle: list[_Process] = []
        self._busy: dict[Connection, tuple[_Process, Plan]] = {}

    def submit(self, plan: Plan) -> None:
        """Give the plan to a worker without one, or to a new one."""
        process = self._idle.pop() if self._idle else _Process(self._make)
        try:
            process.connection.send(plan)
        except OSError:  # it died while it had nothing to do
            process.end()
            process = _Process(self._make)
            process.connection.send(plan)
        self._busy[process.connection] = process, plan

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Outcomes of the workers that have one, or that died."""
        ready = wait(list(self._busy), timeout_s)
        return [self._collect(one) for one in list(self._busy) if one in ready]

    def close(self) -> None:
        """End all workers, whatever they do."""
        for process in (*self._idle, *(process for process, _ in self._busy.values())):
            process.end(patience_s=0.0)
        self._idle.clear()
        self._busy.clear()

    def _collect(self, connection: Connection) -> Outcome:
        process, plan = self._busy.pop(connection)
        try:
            outcome: Outcome = connection.recv()
        except (EOFError, OSError):  # closed, or in the midst of a message
            return Outcome(plan, WorkerDiedError(process.end(_PATIENCE_S)), 0.0)
        self._idle.append(process)
        return outcome


class _Process:
    """A process and the connection to it."""

    def __init__(self, make: MakeEvaluate) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # not a daemon: those may have no children, and data loaders do
        self._process = context.Process(target=_work, args=(theirs, make))
        with _interrupts_kept_from_children():
            self._process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def end(self, patience_s: float = _PATIENCE_S) -> str:
        """Make sure that the process has ended; say how it did."""
        self.connection.close()
        self._process.join(patience_s)
        self._process.kill()
        self._process.join()
        code = self._process.exitcode or 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """What is started in here is not interrupted by Ctrl-C, from its first moment on."""
    mask = getattr(signal, "pthread_sigmask", None)  # inherited; there is none on Windows
    with interrupts_deferred():
        if mask:
            # comes with the first process, and unblocks what is blocked while it is started
            resource_tracker.ensure_running()
        before = mask and mask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            if mask:
                mask(signal.SIG_SETMASK, before)


def _work(connection: Connection, make: MakeEvaluate) -> None:
    """Evaluate plans until the connection ends: the whole life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    worker = Worker(make)
    while True:
        try:
            plan = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(worker.outcome(plan))
