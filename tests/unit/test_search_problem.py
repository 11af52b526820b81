"""The question of a search: drops, constraints, preflight, fingerprint, refusals."""

import dataclasses
import math

import numpy as np
import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option, Plan
from pruneaug_cli.errors import BudgetError, UsageError
from pruneaug_cli.search import SearchProblem, preflight, require_reachable

HALF = LayerChoice(BlockShape(8, 1), 0.5)
MOST = LayerChoice(BlockShape(8, 1), 0.9)
OPTIONS = (Option(DENSE, 2e-3, 0.0), Option(HALF, 1e-3, 0.1), Option(MOST, 1.5e-3, 0.3))


def make(**changes):
    settings = {
        "options": {"conv": OPTIONS, "fc": OPTIONS[:2]},
        "rest_s": 5e-4,
        "dense_metric": 0.98,
        "max_drop": 0.01,
    }
    return SearchProblem(**(settings | changes))


def test_a_drop_is_positive_when_worse_whichever_way_the_metric_points():
    assert make().drop(0.97) == pytest.approx(0.01)
    assert make(higher_is_better=False).drop(0.99) == pytest.approx(0.01)


def test_the_largest_drop_is_allowed_in_spite_of_binary_fractions():
    assert 0.98 - 0.97 > 0.01
    assert make().excess(1.0, 0.98 - 0.97) <= 0.0
    assert make().excess(1.0, 0.98 - 0.9699) > 0.0


@pytest.mark.parametrize("lost", [0, 10])
def test_metrics_that_were_means_in_float32_lose_nothing_to_rounding(lost):
    for right in range(500, 1000):
        dense, sparse = (float(np.float32(n / 1000)) for n in (right, right - lost))
        problem = make(dense_metric=right / 1000, max_drop=lost / 1000)
        assert problem.excess_drop(problem.drop(sparse)) <= 0.0
        assert problem.excess_drop(problem.drop(sparse - 0.001)) > 0.0
        assert dataclasses.replace(problem, dense_metric=dense).excess_drop(dense - sparse) <= 0.0


def test_with_a_target_the_search_works_under_latency_and_minimises_the_drop():
    problem = make(target_latency_s=2e-3)
    assert problem.excess(2e-3, 0.48) <= 0.0
    assert problem.excess(3e-3, 0.0) == pytest.approx(0.5)
    assert problem.cost(1e-3, 0.03) == 0.03


def test_latency_is_the_layers_and_the_rest():
    plan = Plan.of({"conv": HALF, "fc": DENSE})
    assert make().latency_s(plan) == pytest.approx(3.5e-3)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan.of({"conv": HALF}), "other layers than the problem"),
        (Plan.of({"conv": HALF, "fc": MOST}), "layer 'fc' has no option 8x1 @ 0.9"),
    ],
    ids=["layers", "choice"],
)
def test_a_plan_of_another_problem_has_no_latency(plan, message):
    with pytest.raises(ValueError, match=message):
        make().latency_s(plan)


def test_the_fingerprint_covers_what_was_measured_and_not_the_question():
    problem = make()
    for same in (make(max_drop=0.5), make(max_drop=None, target_latency_s=1e-3)):
        assert same.fingerprint() == problem.fingerprint()
    for other in (
        make(rest_s=6e-4),
        make(dense_metric=0.97),
        make(higher_is_better=False),
        make(options={"conv": OPTIONS, "head": OPTIONS[:2]}),
        make(options={"conv": OPTIONS, "fc": OPTIONS}),
    ):
        assert other.fingerprint() != problem.fingerprint()


def test_preflight_counts_the_space_and_finds_its_ends():
    known = preflight(make(target_latency_s=2.4e-3))
    assert (known.layers, known.options, known.options_kept) == (2, 5, 4)  # MOST is dominated
    assert known.log10_plans == pytest.approx(math.log10(6))
    assert known.log10_plans_kept == pytest.approx(math.log10(4))
    assert known.fastest_s == pytest.approx(2.5e-3)
    assert known.dense_s == pytest.approx(4.5e-3)
    assert not known.satisfiable
    assert dict(known.rows())["satisfiable"] is False
    assert preflight(make()).satisfiable


def test_an_unreachable_target_is_refused_with_what_is_reachable():
    with pytest.raises(BudgetError) as refusal:
        require_reachable(make(target_latency_s=1e-3))
    assert str(refusal.value) == (
        "no plan is predicted to take 1 ms or less: the fastest takes 2.5 ms, the dense one 4.5 ms"
    )
    assert refusal.value.hint == "ask for 2.5 ms or more, or profile more blocks and sparsities"
    assert refusal.value.exit_code == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_drop": None}, "the search has no goal"),
        ({"max_drop": -0.1}, "the largest drop must be 0 or more, got -0.1"),
        ({"target_latency_s": 0.0}, "the latency target must be above 0 seconds, got 0"),
    ],
    ids=["none", "drop", "target"],
)
def test_a_question_that_makes_no_sense_is_a_usage_error(changes, message):
    with pytest.raises(UsageError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {}}, "at least one layer"),
        ({"options": {"fc": OPTIONS[1:]}}, "layer 'fc' has no dense option"),
        ({"options": {"fc": (*OPTIONS, OPTIONS[0])}}, "layer 'fc' has the same choice twice"),
        ({"options": {"fc": (Option(DENSE, math.inf, 0.0),)}}, "'fc': latency and harm must be"),
        ({"dense_metric": math.nan}, "must be finite, got nan"),
        ({"rest_s": math.inf}, r"must be finite, got 0\.98, inf"),
    ],
    ids=["layers", "dense", "twice", "infinite", "metric", "rest"],
)
def test_malformed_problems_are_programming_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_a_problem_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().rest_s = 1.0  # type: ignore[misc]
