"""What a result says of a plan: what its harms are, and the runner-up of a layer."""

from types import SimpleNamespace

import pytest

from pruneaug_cli.app.outcome import result_of_plan, runner_up
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option, Plan
from pruneaug_cli.search import SearchProblem, Trial


def option(block, sparsity, latency_s, harm):
    return Option(LayerChoice(BlockShape.parse(block), sparsity), latency_s, harm)


NOTHING = Option(DENSE, 1.0, 0.0)
TALL = option("8x1", 0.75, 0.3, 0.02)


def test_the_runner_up_is_the_fastest_other_block_that_does_no_more_harm():
    slower = option("4x1", 0.5, 0.5, 0.015)
    best = option("4x1", 0.7, 0.4, 0.02)
    harmful = option("16x1", 0.75, 0.2, 0.03)
    same_block = option("8x1", 0.7, 0.35, 0.01)
    assert runner_up([NOTHING, slower, best, harmful, same_block, TALL], TALL) == best


def test_to_stay_dense_is_the_runner_up_when_every_other_block_does_more_harm():
    assert runner_up([NOTHING, TALL, option("4x1", 0.75, 0.1, 0.03)], TALL) == NOTHING


def test_a_layer_that_stays_dense_has_no_runner_up():
    assert runner_up([NOTHING, TALL], NOTHING) is None


@pytest.mark.parametrize("first", ["4x1", "16x1"])
def test_between_equals_the_less_harmful_comes_first(first):
    one, other = option(first, 0.5, 0.4, 0.01), option("2x1", 0.5, 0.4, 0.015)
    assert runner_up([NOTHING, other, one, TALL], TALL) == one


@pytest.mark.parametrize(
    ("settings", "trainable", "harm"),
    [((), True, "loss"), ((), False, "output"), (("search.harm=output",), True, "output")],
)
def test_a_result_says_what_its_harms_are_without_a_search(settings, trainable, harm):
    prepared = SimpleNamespace(layers=(), task=SimpleNamespace(has=lambda name: trainable))
    pricing = SimpleNamespace(
        network=SimpleNamespace(dense_latency_s=2.0), target_latency_s=lambda recipe: None
    )
    problem = SearchProblem({"fc": (NOTHING, TALL)}, 0.1, 0.9, target_latency_s=1.0)
    trial = Trial(1, Plan.of({"fc": TALL.choice}), 0.4, 0.8, 0.1, "tpe")
    recipe = read_recipe(None, settings=settings)
    assert result_of_plan(recipe, prepared, pricing, problem, trial)["harm"] == harm
