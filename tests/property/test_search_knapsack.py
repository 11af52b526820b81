"""The knapsack against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruneaug_cli.search import solve_knapsack

whole = st.integers(0, 12).map(float)
fractions = st.floats(0.0, 10.0, allow_nan=False, width=32)


def problems(latency):
    option = st.tuples(latency, st.floats(0.0, 100.0, width=32))
    return st.lists(st.lists(option, min_size=1, max_size=5), min_size=1, max_size=4)


def arrays(problem):
    latencies = [np.array([latency for latency, _ in layer]) for layer in problem]
    return latencies, [np.array([harm for _, harm in layer]) for layer in problem]


def least_harm(problem, budget):
    """By trying everything; infinite when nothing fits."""
    plans = itertools.product(*problem)
    fits = [plan for plan in plans if sum(latency for latency, _ in plan) <= budget]
    return min((sum(harm for _, harm in plan) for plan in fits), default=np.inf)


def total(problem, chosen, field):
    return sum(layer[index][field] for layer, index in zip(problem, chosen, strict=True))


@given(problems(whole), st.integers(0, 50))
def test_equals_brute_force_where_ticks_are_exact(problem, budget):
    latencies, harms = arrays(problem)
    span = int(sum(latency.max() - latency.min() for latency in latencies))
    table = solve_knapsack(latencies, harms, ticks=max(span, 1))
    chosen = table.choose(float(budget))
    expected = least_harm(problem, budget)
    if chosen is None:
        assert expected == np.inf
    else:
        assert total(problem, chosen, 0) <= budget
        assert total(problem, chosen, 1) == pytest.approx(expected, rel=1e-12)


@given(problems(fractions), st.floats(0.0, 40.0), st.integers(1, 300))
def test_fits_in_seconds_and_loses_at_most_a_tick_per_layer(problem, budget, ticks):
    latencies, harms = arrays(problem)
    table = solve_knapsack(latencies, harms, ticks=ticks)
    chosen = table.choose(budget)
    if chosen is None:
        assert least_harm(problem, budget * (1.0 - 1e-12)) == np.inf
        return
    rounding = 1e-9 * (1.0 + budget)
    assert total(problem, chosen, 0) <= budget + rounding
    # every layer is overestimated by less than a tick, and the budget rounded down by less
    reached = budget - (len(problem) + 1) * table.tick_s - rounding
    assert total(problem, chosen, 1) <= least_harm(problem, reached) * (1.0 + 1e-12)


@given(problems(fractions), st.integers(1, 60))
def test_one_pass_holds_the_plan_of_every_budget(problem, ticks):
    table = solve_knapsack(*arrays(problem), ticks=ticks)
    assert (np.diff(table.least_harms) <= 0.0).all()
    for tick, harm in enumerate(table.least_harms):
        chosen = table.choose_at(tick)
        assert total(problem, chosen, 1) == pytest.approx(harm, rel=1e-12)
        assert total(problem, chosen, 0) <= table.budgets_s[tick] * (1.0 + 1e-9)
