"""The clock: batching, alternation and statistics, with a clock that only moves when told to."""

import time

import pytest

from pruneaug_cli.runtime import Samples, clock_for, time_alternating


class FakeClock:
    """Time passes only inside calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float, name: str = ""):
        def call() -> None:
            self.now += seconds
            self.calls.append(name)

        return call


def test_short_calls_are_batched_up_to_the_sample_length():
    clock = FakeClock()
    (seen,) = time_alternating([clock.work(1e-5)], repeats=3, sample_s=1e-3, clock=clock)
    assert seen.samples_s == pytest.approx([1e-5] * 3)
    batches = (1, 2, 4, 8, 16, 32, 64, 128, *[128] * 3)
    assert len(clock.calls) == sum(1 + batch for batch in batches)


def test_a_call_longer_than_a_sample_is_never_batched():
    clock = FakeClock()
    (seen,) = time_alternating([clock.work(0.5)], repeats=2, sample_s=1e-3, clock=clock)
    assert seen.samples_s == (0.5, 0.5)
    assert len(clock.calls) == 2 + 2 * 2  # each after one that does not count


def test_a_clock_that_stands_still_does_not_hang():
    calls = []
    (seen,) = time_alternating(
        [lambda: calls.append(1)], repeats=1, sample_s=1.0, clock=lambda: 0.0
    )
    assert seen.samples_s == (0.0,)


def test_what_another_call_took_from_the_caches_is_not_counted():
    clock = FakeClock()

    def cold_after_another(seconds: float, name: str):
        def call() -> None:
            warm = clock.calls[-1:] == [name]
            clock.now += seconds if warm else 3.0 * seconds
            clock.calls.append(name)

        return call

    calls = [cold_after_another(1.0, "a"), cold_after_another(2.0, "b")]
    one, other = time_alternating(calls, repeats=4, clock=clock)
    assert (one.samples_s, other.samples_s) == ((1.0,) * 4, (2.0,) * 4)


def test_calls_are_timed_in_turn_and_in_both_orders():
    clock = FakeClock()
    time_alternating([clock.work(1.0, "a"), clock.work(2.0, "b")], repeats=4, clock=clock)
    assert "".join(clock.calls) == "aabb" + "aabbbbaa" * 2


def test_a_machine_that_slows_down_slows_all_calls_alike():
    clock = FakeClock()
    speed = {"factor": 1.0}

    def drifting(seconds: float):
        def call() -> None:
            clock.now += seconds * speed["factor"]
            speed["factor"] *= 1.01

        return call

    slow, fast = time_alternating([drifting(2.0), drifting(1.0)], repeats=20, clock=clock)
    # within a pair of rounds each call goes first once, so one step of drift is all that is left
    assert slow.median_s / fast.median_s == pytest.approx(2.0, rel=0.011)


def test_a_budget_adds_rounds_but_never_takes_the_promised_ones():
    clock = FakeClock()
    call = clock.work(1.0)
    (many,) = time_alternating([call], repeats=2, budget_s=10.0, clock=clock, wall=clock)
    assert len(many.samples_s) == 4  # the warm-up took the first two
    (few,) = time_alternating([call], repeats=5, budget_s=1.0, clock=clock, wall=clock)
    assert len(few.samples_s) == 5


def test_one_thread_is_timed_by_its_own_clock_and_several_by_the_wall():
    assert clock_for(1) is time.thread_time
    assert clock_for(2) is time.perf_counter


def test_the_spread_is_the_inter_quartile_range_over_the_median():
    samples = Samples((1.0, 2.0, 3.0, 4.0, 100.0))
    assert samples.median_s == 3.0
    assert samples.spread == pytest.approx((4.0 - 2.0) / 3.0)
    assert samples.best_s == 1.0


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="a timing needs at least one sample"):
        Samples(())
