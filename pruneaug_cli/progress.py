"""How long work tells its caller where it stands: a callback of steps. The library never prints."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """``done`` of ``total`` pieces of ``stage`` are finished; ``note`` is the latest news.

    A ``total`` of 0 means that nobody knows it yet.
    """

    stage: str
    done: int
    total: int
    note: str = ""


Progress = Callable[[Step], None]


def silent(step: Step) -> None:
    """Tell nobody."""
    del step
