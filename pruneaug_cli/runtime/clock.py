"""Timing calls: the authority for how a latency is sampled, here and in every profile.

A sample is the mean of a batch of calls long enough for the clock, after one call that does not
count: it brings back into the caches what other calls have taken, as in a program that runs one
model again and again. Batch sizes grow by doubling until one batch lasts ``sample_s``; those
growing batches are the warm-up and are discarded. Calls
to be compared are timed alternately, in one order and then in the other, so that a machine that
slows down slows all of them. Every sample is kept. The clock is an argument; times are seconds.

Where one thread does all the work, the clock is that thread's processor time (:func:`clock_for`):
the seconds other programs take away are not the model's. On an idle machine the two are the same;
on one with three busy programs per core, wall-clock samples of a millisecond scatter by 80%,
these by 5%.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Call = Callable[[], object]
Clock = Callable[[], float]

_LONGEST_BATCH = 1 << 20  # ends the doubling when a clock stands still


def clock_for(threads: int) -> Clock:
    """The clock for a session with this many threads; one thread works on the caller's."""
    return time.thread_time if threads == 1 else time.perf_counter


@dataclass(frozen=True, slots=True)
class Samples:
    """What was seen of one call, in the order it was seen.

    Example:
        >>> samples = Samples((3.0, 1.0, 2.0))
        >>> samples.median_s, samples.best_s, samples.spread
        (2.0, 1.0, 0.5)
    """

    samples_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_s:
            raise ValueError("a timing needs at least one sample")

    @property
    def median_s(self) -> float:
        """The middle sample: what the call usually takes."""
        return float(np.median(self.samples_s))

    @property
    def best_s(self) -> float:
        """The fastest sample."""
        return min(self.samples_s)

    @property
    def spread(self) -> float:
        """Inter-quartile range over the median."""
        low, middle, high = np.percentile(self.samples_s, (25, 50, 75))
        return float((high - low) / middle) if middle > 0.0 else 0.0


def time_alternating(
    calls: Sequence[Call],
    *,
    repeats: int = 20,
    sample_s: float = 1e-3,
    budget_s: float | None = None,
    clock: Clock = time.perf_counter,
    wall: Clock = time.perf_counter,
) -> list[Samples]:
    """Time calls side by side, one sample of each in turn.

    Args:
        calls: what is compared.
        repeats: samples of each; with ``budget_s`` the least there will be.
        sample_s: how long a sample should last.
        budget_s: go on sampling until this much time has passed, warm-up included.
        clock: what samples are read from, seconds; only differences count.
        wall: what the budget is read from.

    Returns:
        The samples of each call, in the order of ``calls``.
    """
    start = wall()
    batches = [settle_batch(call, sample_s=sample_s, clock=clock) for call in calls]
    seen: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    rounds = 0
    while rounds < repeats or (budget_s is not None and wall() - start < budget_s):
        for index in order:
            seen[index].append(time_batch(calls[index], batches[index], clock))
        order.reverse()
        rounds += 1
    return [Samples(tuple(samples)) for samples in seen]


def settle_batch(call: Call, *, sample_s: float, clock: Clock = time.perf_counter) -> int:
    """Warm ``call`` up; returns how many calls make one sample of ``sample_s``."""
    batch = 1
    while time_batch(call, batch, clock) * batch < sample_s and batch < _LONGEST_BATCH:
        batch *= 2
    return batch


def time_batch(call: Call, batch: int, clock: Clock = time.perf_counter) -> float:
    """Mean seconds of ``batch`` calls in a row, after one that does not count."""
    call()
    start = clock()
    for _ in range(batch):
        call()
    return (clock() - start) / batch
