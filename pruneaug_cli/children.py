"""Child processes that do jobs: started with the first ones, kept for the next, replaced if dead.

The standard library's pool is lost as a whole when one of its processes dies, and may fall over
while it is (its other end of a pipe is closed already when the next process is started). Here a
process that dies loses its own job only.

Processes are spawned, not forked: threads of torch and BLAS do not survive a fork. A child ends
when the connection to its parent does, and at once when the parent is gone. It ignores Ctrl-C,
which a terminal sends to everybody: the parent decides what happens then.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

from pruneaug_cli.interrupts import interrupts_deferred

Job = TypeVar("Job")
Result = TypeVar("Result")

Begin = Callable[[], Callable[[Job], Result]]
"""What a child does before its first job; makes what does the jobs. Picklable, and light."""

_PATIENCE_S = 1.0  # for a process that is about to end by itself
_READY = "ready"  # the first message of a child


class WorkerDiedError(Exception):
    """The process that had a job has ended without an answer; says how."""


class Children(Generic[Job, Result]):
    """Does each job in a process of its own; as many processes as jobs are under way at a time.

    Args:
        begin: called once in every child.
    """

    def __init__(self, begin: Begin[Job, Result]) -> None:
        self._begin = begin
        self._idle: list[_Child] = []
        self._busy: dict[Connection, tuple[_Child, Job]] = {}

    def submit(self, job: Job) -> None:
        """Give the job to a child without one, or to a new one as soon as that is ready."""
        while self._idle:
            child = self._idle.pop()
            try:
                child.connection.send(job)
                break
            except OSError:  # it died while it had nothing to do
                child.end()
        else:
            child = _Child(self._begin)
        self._busy[child.connection] = child, job

    def wait(self, timeout_s: float | None = None) -> list[tuple[Job, Result | Exception]]:
        """Jobs that came to an end, waiting for the first as long as ``timeout_s``; maybe none.

        Beside each job: what it returned, or what it raised; :class:`WorkerDiedError` if its
        process is lost.
        """
        ready = wait(list(self._busy), timeout_s)
        heard = [self._hear(one) for one in list(self._busy) if one in ready]
        return [answer for answer in heard if answer is not None]

    def close(self) -> None:
        """End all children, whatever they do."""
        for child in (*self._idle, *(child for child, _ in self._busy.values())):
            child.end(patience_s=0.0)
        self._idle.clear()
        self._busy.clear()

    def _hear(self, connection: Connection) -> tuple[Job, Result | Exception] | None:
        child, job = self._busy[connection]
        result: Result | Exception
        try:
            message = connection.recv()
            if message == _READY:
                connection.send(job)  # a large one only gets through while somebody reads
                return None
            (result,) = message
            self._idle.append(child)
        except (EOFError, OSError):  # closed, or in the midst of a message
            result = WorkerDiedError(child.end())
        del self._busy[connection]
        return job, result


def portable(error: Exception) -> Exception:
    """The error being handled, with its traceback as a note; as text where it cannot travel."""
    where = traceback.format_exc()
    error.add_note(f"in a worker:\n{where}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    except Exception:  # noqa: BLE001  pickling runs any code of the class
        return RuntimeError(where)
    return error


class _Child:
    """A process and the connection to it."""

    def __init__(self, begin: Begin[Job, Result]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # not a daemon: those may have no children, and data loaders do
        self._process = context.Process(target=_live, args=(theirs, begin))
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


def _live(connection: Connection, begin: Begin[Job, Result]) -> None:
    """Do jobs until the connection ends: the whole life of a child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work = None
    try:
        connection.send(_READY)
        while True:
            job = connection.recv()
            try:
                work = work or begin()
                answer: Result | Exception = work(job)
            except Exception as error:  # noqa: BLE001  the parent raises it
                answer = portable(error)
            connection.send((answer,))
    except (EOFError, OSError):
        return


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its children, and they may be in the midst of a job."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
