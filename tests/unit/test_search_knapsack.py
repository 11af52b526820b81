"""The knapsack on cases worked out by hand, and what it refuses."""

import time

import numpy as np
import pytest

from pruneaug_cli.search import solve_knapsack

LATENCIES = [np.array([1.0, 3.0]), np.array([2.0, 5.0, 6.0])]
HARMS = [np.array([4.0, 0.0]), np.array([9.0, 1.0, 0.0])]


@pytest.mark.parametrize(
    ("budget_s", "chosen"),
    [(2.9, None), (3.0, (0, 0)), (5.0, (1, 0)), (6.0, (0, 1)), (8.0, (1, 1)), (1e9, (1, 2))],
)
def test_every_budget_has_its_plan(budget_s, chosen):
    assert solve_knapsack(LATENCIES, HARMS, ticks=6).choose(budget_s) == chosen


def test_the_fastest_plan_is_never_lost_to_rounding():
    rng = np.random.default_rng(0)
    latencies = [rng.uniform(0.1, 1.0, 5) for _ in range(30)]
    fastest = tuple(int(latency.argmin()) for latency in latencies)
    table = solve_knapsack(latencies, [np.ones(5)] * 30, ticks=1)
    assert table.choose(table.floor_s) == fastest


def test_layers_without_a_choice_leave_one_plan():
    table = solve_knapsack([np.array([2.0]), np.array([3.0])], [np.array([1.0]), np.array([0.0])])
    assert table.choose(5.0) == (0, 0)
    assert table.choose(4.999) is None
    assert table.least_harms.tolist() == [1.0]


def test_of_equally_harmful_options_the_first_stands():
    table = solve_knapsack([np.array([1.0, 1.0])], [np.array([2.0, 2.0])])
    assert table.choose(1.0) == (0,)


@pytest.mark.parametrize(
    ("latencies", "harms", "ticks", "message"),
    [
        ([np.ones(2)], [np.ones(2)], 0, "at least one tick is needed, got 0"),
        ([np.ones(2)], [], 10, "1 layers of latencies, 0 of harms"),
        ([np.ones(0)], [np.ones(0)], 10, r"layer 0: expected as many .* got shapes \(0,\)"),
        ([np.ones(2), np.ones(2)], [np.ones(2), np.ones(3)], 10, r"layer 1: .* \(2,\) and \(3,\)"),
    ],
    ids=["ticks", "layers", "empty", "lengths"],
)
def test_malformed_tables_are_refused(latencies, harms, ticks, message):
    with pytest.raises(ValueError, match=message):
        solve_knapsack(latencies, harms, ticks=ticks)


def test_two_hundred_layers_of_a_hundred_options_take_less_than_a_second():
    rng = np.random.default_rng(0)
    latencies = [np.sort(rng.uniform(0.0, 1.0, 100)) for _ in range(200)]
    harms = [np.sort(rng.uniform(0.0, 1.0, 100))[::-1] for _ in range(200)]  # none is dominated
    started = time.process_time()
    table = solve_knapsack(latencies, harms, ticks=10_000)
    assert time.process_time() - started < 1.0  # 0.08 s, measured
    assert table.least_harms[0] == pytest.approx(sum(harm[0] for harm in harms))


def test_what_rounding_leaves_of_a_budget_is_used():
    rng = np.random.default_rng(0)
    latencies = [np.sort(rng.uniform(0.1, 1.0, 20)) for _ in range(100)]
    harms = [np.sort(rng.uniform(0.0, 1.0, 20))[::-1] for _ in range(100)]
    table = solve_knapsack(latencies, harms, ticks=2000)
    budget_s = 0.5 * (table.floor_s + float(table.budgets_s[-1]))
    chosen = table.choose(budget_s)
    short_s = budget_s - table.latency_s(chosen)
    assert 0.0 <= short_s < 5 * table.tick_s
    tick = int((budget_s - table.floor_s) // table.tick_s)
    assert budget_s - table.latency_s(table.choose_at(tick)) > 20 * table.tick_s
    harm = sum(float(of_layer[index]) for of_layer, index in zip(harms, chosen, strict=True))
    assert harm < 0.99 * table.least_harms[tick]
