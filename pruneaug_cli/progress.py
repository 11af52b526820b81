"""How long work tells its caller where it stands: a callback of steps. The library never prints."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """An evaluated plan; ``drop`` as in ``search/problem.py``: how much worse than dense it is."""

    trial: int
    latency_s: float
    metric: float
    drop: float


@dataclass(frozen=True, slots=True)
class Flight:
    """A plan that is being evaluated: which trial, who proposed it, its predicted latency."""

    trial: int
    origin: str
    latency_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What a search knows by now.

    Attributes:
        best: the best plan that keeps the constraint; None while none does.
        uniform: the best that gives every layer the same choice; None likewise.
        front: plans that no other beats in latency and drop, fastest first.
        flights: what is being evaluated, here and on other machines.
        max_drop: largest drop allowed; None without one.
        target_latency_s: largest latency allowed; None without one.
        baseline_s: latency that speed-ups refer to; None where it is not known.
    """

    best: Found | None
    uniform: Found | None
    front: tuple[Found, ...]
    flights: tuple[Flight, ...]
    max_drop: float | None = None
    target_latency_s: float | None = None
    baseline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """``done`` of ``total`` pieces of ``stage`` are finished; ``note`` is the latest news.

    A ``total`` of 0 means that nobody knows it yet.

    Attributes:
        at_once: pieces that are worked on side by side.
        share: part of the stage's work that is done, where pieces take unlike long; None: they
            count alike.
        ends_in_s: seconds after which no piece begins any more; None without such a limit.
        standing: what a search knows by now.
    """

    stage: str
    done: int
    total: int
    note: str = ""
    at_once: int = 1
    share: float | None = None
    ends_in_s: float | None = None
    standing: Standing | None = None


Progress = Callable[[Step], None]


def silent(step: Step) -> None:
    """Tell nobody."""
    del step
