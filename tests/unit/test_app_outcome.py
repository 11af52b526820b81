"""What a result says of a layer: its runner-up, and its options as columns."""

import pytest

from pruneaug_cli.app.outcome import runner_up
from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option


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
