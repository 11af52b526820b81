"""Timing on a machine that changes its speed.

A virtual machine shares its core and its power budget with strangers: for a tenth of a second at a
time the same work takes 1.1 or 1.8 times as long. So a fixed piece of work, the yardstick, is timed
before and after every round of samples. Samples are given for the machine at one speed: each round
is scaled by what the yardstick took around it. Rounds in which the yardstick took more than
``SHARED`` times the fastest seen do not count, as sharing a core slows different work differently:
on one machine our kernels 1.37 to 1.44 times, ONNX Runtime's 1.30 times, entering a session 1.7
times. Where too few are left, all count: to pick the rounds in which the yardstick looked fastest
would scale them by its noise, and gave latencies 5% too long.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pruneaug_cli.runtime.clock import Call, Clock, Samples, settle_batch, time_batch

SHARED = 1.25
FEWEST = 15
"""Samples that are taken whatever they cost."""
_MOST_ROUNDS = 2  # rounds taken at the most, in times the rounds wanted
_WARM_UP = 50


class Pace:
    """The speed of the machine, told by a yardstick.

    All samples of one ``Pace`` are given for one speed: that at which the yardstick takes
    ``best_s``. It is known from before, or the best of the first takes; should the machine turn
    out faster later, samples are scaled up.

    Args:
        work: the yardstick: about 0.1 ms, of the kind that is timed.
        clock: seconds.
        best_s: the best time of the yardstick known from before.
    """

    def __init__(self, work: Call, clock: Clock, best_s: float = math.inf) -> None:
        self._work, self._clock = work, clock
        self._fastest_s = best_s
        for _ in range(_WARM_UP):
            self.take()
        self._best_s = best_s if math.isfinite(best_s) else self._fastest_s

    @property
    def best_s(self) -> float:
        """What the yardstick takes at the speed that samples are given for, seconds."""
        return self._best_s

    def take(self) -> float:
        """Time the yardstick now; seconds."""
        taken_s = time_batch(self._work, 1, self._clock)
        self._fastest_s = min(self._fastest_s, taken_s)
        return taken_s

    def is_shared(self, taken_s: float) -> bool:
        """Whether somebody else worked on the core while the yardstick took so long."""
        return taken_s > SHARED * self._fastest_s


@dataclass(frozen=True, slots=True)
class _Round:
    before_s: float
    after_s: float
    samples_s: tuple[float, ...]

    @property
    def slowest_s(self) -> float:
        return max(self.before_s, self.after_s)

    @property
    def mean_s(self) -> float:
        return 0.5 * (self.before_s + self.after_s)


def time_in_pace(
    calls: Sequence[Call],
    pace: Pace,
    *,
    repeats: int,
    sample_s: float,
    clock: Clock,
    budget_s: float = math.inf,
) -> list[Samples]:
    """Time calls side by side, one sample of each a round, as on the machine at one speed.

    Args:
        calls: what is compared.
        pace: tells how fast the machine is.
        repeats: samples of each.
        sample_s: how long a sample should last.
        clock: seconds; only differences count.
        budget_s: end after so long by the clock, with fewer samples, but not below ``FEWEST``.

    Returns:
        The samples of each call, in the order of ``calls``: ``repeats`` of each, fewer when the
        budget ends, more where the core is always shared.
    """
    start = clock()
    batches = [settle_batch(call, sample_s=sample_s, clock=clock) for call in calls]
    rounds: list[_Round] = []
    enough = min(FEWEST, repeats)
    alone = 0
    while alone < repeats and len(rounds) < _MOST_ROUNDS * repeats:
        if clock() - start > budget_s and len(rounds) >= enough:
            break
        before = pace.take()
        samples = tuple(
            time_batch(call, batch, clock) for call, batch in zip(calls, batches, strict=True)
        )
        rounds.append(_Round(before, pace.take(), samples))
        alone += not pace.is_shared(rounds[-1].slowest_s)
    chosen = [taken for taken in rounds if not pace.is_shared(taken.slowest_s)]
    if len(chosen) < enough:
        chosen = rounds
    return [
        Samples(tuple(taken.samples_s[i] * pace.best_s / taken.mean_s for taken in chosen))
        for i in range(len(calls))
    ]
