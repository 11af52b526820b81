"""When Ctrl-C takes effect: between two dealings with a database or a process, never amid one.

An interrupt that comes anywhere can leave a connection behind that holds the database's lock, and
whoever wants to write next, be it the search that tidies up, waits for it.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Interrupts that come inside the block take effect at its end.

    Blocks may be nested. Outside of the main thread, which no interrupt reaches, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


def uninterrupted(function: Callable[P, R]) -> Callable[P, R]:
    """Interrupts that come while ``function`` runs take effect when it returns."""

    @wraps(function)
    def deferring(*args: P.args, **kwargs: P.kwargs) -> R:
        with interrupts_deferred():
            return function(*args, **kwargs)

    return deferring
