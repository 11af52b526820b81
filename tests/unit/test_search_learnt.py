"""What the trials of the default strategy say of the layers, for the report."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option, Plan
from pruneaug_cli.search import SearchProblem, Trial, expected_drop, learnt_coefficients


def test_a_layer_that_matters_more_than_its_harm_says_gets_a_larger_coefficient():
    block = BlockShape(4, 1)
    row = (
        Option(DENSE, 1.0, 0.0),
        *(Option(LayerChoice(block, s), 1.0 - s, s * s) for s in (0.2, 0.4, 0.6, 0.8)),
    )
    problem = SearchProblem({"a": row, "b": row}, 0.0, 1.0, max_drop=0.2)
    trials = []
    for number, (one, other) in enumerate(itertools.product(row, row)):
        plan = Plan.of({"a": one.choice, "b": other.choice})
        metric = 1.0 - 0.4 * one.harm - 0.1 * other.harm
        latency_s = problem.latency_s(plan)
        trials.append(
            Trial(number, plan, latency_s, metric, 0.0, "fit", divergence=2.0 * (1.0 - metric))
        )
    learnt = learnt_coefficients(problem, trials)
    assert learnt["a"].value / learnt["b"].value == pytest.approx(4.0, rel=0.2)
    assert learnt["a"].value * learnt["b"].value == pytest.approx(1.0)
    assert learnt["b"].low < learnt["b"].value < learnt["b"].high
    assert learnt_coefficients(problem, trials[:7]) == {}


def test_where_there_is_one_layer_its_coefficient_is_one_by_definition():
    row = (
        Option(DENSE, 1.0, 0.0),
        *(Option(LayerChoice(BlockShape(4, 1), s), 1.0 - s, s * s) for s in np.arange(1, 10) / 10),
    )
    problem = SearchProblem({"a": row}, 0.0, 1.0, max_drop=0.2)
    trials = [
        Trial(n, Plan.of({"a": o.choice}), o.latency_s, 1.0 - o.harm, 0.0, "fit", divergence=o.harm)
        for n, o in enumerate(row[1:])
    ]
    (only,) = learnt_coefficients(problem, trials).values()
    assert (only.low, only.value, only.high) == pytest.approx((1.0, 1.0, 1.0))


def test_the_best_of_many_is_expected_to_lose_what_plans_of_its_divergence_lose():
    rng = np.random.default_rng(0)
    block = BlockShape(4, 1)
    row = (
        Option(DENSE, 1.0, 0.0),
        *(Option(LayerChoice(block, s), 1.0 - s, s * s) for s in (0.2, 0.4, 0.6, 0.8)),
    )
    problem = SearchProblem({"a": row, "b": row}, 0.0, 1.0, max_drop=0.1)
    trials = []
    for number, (one, other) in enumerate(list(itertools.product(row, row))[1:]):
        plan = Plan.of({"a": one.choice, "b": other.choice})
        divergence = 0.2 * (one.harm + other.harm)
        metric = 1.0 - divergence + 0.02 * float(rng.standard_normal())
        latency_s = problem.latency_s(plan)
        trials.append(Trial(number, plan, latency_s, metric, 0.0, "fit", divergence=divergence))
    near = min(trials, key=lambda trial: abs(trial.divergence - 0.1))
    lucky = replace(near, metric=1.0)
    expected = expected_drop(problem, [lucky if t is near else t for t in trials], lucky)
    assert expected == pytest.approx(near.divergence, rel=0.25)
    assert expected_drop(problem, trials[:7], near) is None
    assert expected_drop(problem, trials, replace(near, divergence=None)) is None
