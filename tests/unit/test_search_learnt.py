"""What the trials of the default strategy say of the layers, for the report."""

import itertools

import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option, Plan
from pruneaug_cli.search import SearchProblem, Trial, learnt_coefficients


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
