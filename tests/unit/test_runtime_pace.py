"""Timing in pace: a machine that changes its speed changes nothing of what is reported."""

import pytest

from pruneaug_cli.runtime import SHARED, Pace, time_in_pace
from pruneaug_cli.runtime.pace import FEWEST


class Machine:
    """A clock that only work moves on, at a speed that changes with time."""

    def __init__(self, slow: tuple[float, float], factor: float) -> None:
        self.now = 0.0
        self._slow, self._factor = slow, factor

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        first, last = self._slow
        self.now += seconds * (self._factor if first <= self.now < last else 1.0)


def measure(machine: Machine, repeats: int = 21) -> tuple[float, float]:
    pace = Pace(lambda: machine.work(1e-4), machine)
    short, long = time_in_pace(
        [lambda: machine.work(2e-4), lambda: machine.work(6e-4)],
        pace, repeats=repeats, sample_s=1e-4, clock=machine,
    )  # fmt: skip
    assert len(short.samples_s) == len(long.samples_s) >= repeats
    assert pace.best_s == pytest.approx(1e-4)
    return short.median_s, long.median_s


@pytest.mark.parametrize("factor", [1.0, 1.1, 1.2, 1.8, 5.0])
def test_a_machine_that_is_slow_for_a_while_reports_its_best(factor: float) -> None:
    assert measure(Machine((0.01, 0.02), factor)) == pytest.approx((2e-4, 6e-4))


def test_a_machine_that_stays_slow_is_scaled_by_the_yardstick() -> None:
    assert measure(Machine((0.0055, 1e9), 2.0 * SHARED)) == pytest.approx((2e-4, 6e-4))


def test_a_speed_known_from_before_is_the_reference() -> None:
    machine = Machine((0.0, 1e9), 1.5)
    pace = Pace(lambda: machine.work(1e-4), machine, best_s=1e-4)
    (samples,) = time_in_pace(
        [lambda: machine.work(2e-4)], pace, repeats=5, sample_s=1e-4, clock=machine
    )
    assert samples.median_s == pytest.approx(2e-4)


def test_a_machine_that_grows_faster_does_not_change_the_speed_samples_are_given_for() -> None:
    machine = Machine((0.0, 0.0205), 2.0)  # slow through the first takes
    pace = Pace(lambda: machine.work(1e-4), machine)
    (samples,) = time_in_pace(
        [lambda: machine.work(2e-4)], pace, repeats=21, sample_s=1e-4, clock=machine
    )
    assert pace.best_s == pytest.approx(2e-4)
    assert samples.median_s == pytest.approx(4e-4)


@pytest.mark.parametrize(("budget_s", "taken"), [(0.0, FEWEST), (1.0, 25), (100.0, 101)])
def test_a_budget_takes_fewer_samples_of_what_is_slow(budget_s: float, taken: int) -> None:
    machine = Machine((0.0, 0.0), 1.0)
    pace = Pace(lambda: machine.work(1e-4), machine)
    (samples,) = time_in_pace(
        [lambda: machine.work(0.02)], pace,
        repeats=101, sample_s=1e-3, clock=machine, budget_s=budget_s,
    )  # fmt: skip
    # two calls of 0.02 s a round, the first for the caches, and two for the warm-up
    assert len(samples.samples_s) == pytest.approx(taken, abs=1)
    assert samples.median_s == pytest.approx(0.02)


def test_of_a_slow_machine_all_rounds_count_when_the_budget_ends() -> None:
    machine = Machine((0.0055, 1e9), 2.0 * SHARED)
    pace = Pace(lambda: machine.work(1e-4), machine)
    (samples,) = time_in_pace(
        [lambda: machine.work(0.02)], pace,
        repeats=101, sample_s=1e-3, clock=machine, budget_s=5.0,
    )  # fmt: skip
    assert len(samples.samples_s) > FEWEST
    assert samples.median_s == pytest.approx(0.02)


def test_the_yardstick_is_timed_with_its_caches_warm() -> None:
    machine = Machine((0.0, 0.0), 1.0)
    calls = []

    def work() -> None:  # twice as slow after something else ran
        machine.work(1e-4 if calls and calls[-1] == "work" else 2e-4)
        calls.append("work")

    pace = Pace(work, machine)
    calls.append("model")
    assert pace.take() == pytest.approx(1e-4)


def test_rounds_that_only_look_fast_are_not_picked() -> None:
    machine, looks = Machine((0.0, 0.0), 1.0), iter([1.0] * 100 + [1.5, 1.3, 1.7] * 200)
    pace = Pace(lambda: machine.work(1e-4 * next(looks)), machine)
    (samples,) = time_in_pace(
        [lambda: machine.work(3e-4)], pace, repeats=30, sample_s=1e-4, clock=machine
    )
    assert samples.median_s == pytest.approx(2e-4, rel=0.01)  # on average 1.5 times slower


def test_what_counts_as_shared_is_told_by_the_fastest_seen() -> None:
    machine = Machine((0.0, 0.03), 2.0 * SHARED)  # slow through the first takes
    pace = Pace(lambda: machine.work(1e-4), machine)
    slow_s = pace.best_s
    assert not pace.is_shared(slow_s)
    machine.now = 1.0
    pace.take()
    assert pace.is_shared(slow_s)
    assert pace.best_s == slow_s  # samples are given for one speed
