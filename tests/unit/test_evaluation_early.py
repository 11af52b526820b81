"""Evaluations that end early: the bound holds, and ends what it should."""

import math

import numpy as np
import pytest

from pruneaug_cli.core import Partial
from pruneaug_cli.errors import TaskError
from pruneaug_cli.evaluation import EarlyStop, tallies
from pruneaug_cli.evaluation.early import ERROR, Tally, chance_to_reach

DENSE = tallies([(90.0, 100)] * 10)


def batches(scores, size=100):
    return [(float(part.sum()), len(part)) for part in np.split(scores, len(scores) // size)]


def of_mean(mean, rng, samples=1000):
    scores = np.zeros(samples)
    scores[: round(mean * samples)] = 1.0
    return rng.permutation(scores)


def test_dense_scores_are_added_up():
    assert tallies([(3, 4), (1.5, 2)]) == (Tally(3, 4, 1), Tally(4.5, 6, 2))
    assert tallies([(3, 4), (1.5, 2)])[-1].mean == 0.75
    with pytest.raises(TaskError, match="gave no batch"):
        tallies([])


@pytest.mark.parametrize("seen", [1, 10, 100, 500, 900])
@pytest.mark.parametrize("good", [870, 900, 500])
def test_the_bound_covers_the_hypergeometric_distribution(seen, good):
    """P(mean of n without replacement <= x), exactly, by its sum."""
    samples, floor = 1000, good / 1000

    def probability(hits):
        if seen - hits > samples - good or hits > min(seen, good):
            return 0.0
        ways = math.comb(good, hits) * math.comb(samples - good, seen - hits)
        return ways / math.comb(samples, seen)

    tail = 0.0
    for hits in range(seen + 1):
        tail += probability(hits)
        assert tail <= chance_to_reach(floor, hits / seen, seen, samples) * (1.0 + 1e-9)


def test_the_bound_is_at_its_edges():
    assert chance_to_reach(0.9, 0.9, 10, 100) == 1.0
    assert chance_to_reach(0.9, 0.0, 11, 100) == 0.0  # 89 of 100 are left
    assert chance_to_reach(0.9, 0.0, 10, 100) == pytest.approx(0.1**10)  # all others are right
    assert chance_to_reach(1.0, 0.9, 10, 100) == 0.0


def test_a_plan_at_the_floor_is_hardly_ever_given_up():
    """At any look; the error of 1e-3 is a bound, so none of 1000 is expected, and 4 is generous."""
    rng = np.random.default_rng(0)
    stop = EarlyStop(DENSE, max_drop=0.03)
    given_up = sum(isinstance(stop(batches(of_mean(0.87, rng))), Partial) for _ in range(1000))
    assert given_up <= 4 * ERROR * 1000


def test_scores_between_0_and_1_are_covered_too():
    rng = np.random.default_rng(1)
    scores = np.where(rng.random(1000) < 0.5, 0.55, 0.95)
    dense = tallies(batches(scores))
    stop = EarlyStop(dense, max_drop=0.0)
    assert not any(isinstance(stop(batches(rng.permutation(scores))), Partial) for _ in range(200))


def test_a_hopeless_plan_is_given_up_early_and_says_so():
    rng = np.random.default_rng(2)
    stop = EarlyStop(DENSE, max_drop=0.02)
    found = stop(batches(of_mean(0.3, rng)))
    assert isinstance(found, Partial)
    assert (found.samples, found.of, found.max_drop) == (100, 1000, 0.02)
    assert found.metric == pytest.approx(0.3, abs=0.15)
    near = stop(batches(of_mean(0.8, rng)))
    assert isinstance(near, Partial)
    assert 100 < near.samples < 1000


def test_a_good_plan_is_evaluated_to_the_end():
    rng = np.random.default_rng(3)
    assert EarlyStop(DENSE, max_drop=0.02)(batches(of_mean(0.89, rng))) == pytest.approx(0.89)


def test_a_metric_that_should_be_low_is_turned_around():
    rng = np.random.default_rng(4)
    errors = tallies([(10.0, 100)] * 10)
    stop = EarlyStop(errors, max_drop=0.02, higher_is_better=False)
    assert stop(batches(of_mean(0.11, rng))) == pytest.approx(0.11)
    assert isinstance(stop(batches(of_mean(0.6, rng))), Partial)


def test_the_estimate_is_the_dense_metric_less_the_drop_so_far():
    """The first half of the samples is easy for everybody."""
    dense = tallies([(100.0, 100)] * 5 + [(80.0, 100)] * 5)
    found = EarlyStop(dense, max_drop=0.02)([(70.0, 100)] * 10)
    assert isinstance(found, Partial)
    assert found.samples < 500
    assert found.metric == pytest.approx(0.9 - 0.3)
    errors = tallies([(0.0, 100)] * 5 + [(20.0, 100)] * 5)
    found = EarlyStop(errors, max_drop=0.02, higher_is_better=False)([(30.0, 100)] * 10)
    assert isinstance(found, Partial)
    assert found.metric == pytest.approx(0.1 + 0.3)


def test_more_batches_than_the_dense_models_are_estimated_as_they_are():
    """The fifth settles it; the dense model had two, of 500 samples each."""
    found = EarlyStop(tallies([(490.0, 500)] * 2), max_drop=0.05)([(88.0, 100)] * 10)
    assert isinstance(found, Partial)
    assert (found.samples, found.metric) == (500, 0.88)


def test_no_estimate_keeps_the_drop():
    hard = tallies([(10.0, 100)] + [(100.0, 100)] * 9)
    found = EarlyStop(hard, max_drop=0.02)([(10.0, 100)] * 10)
    assert isinstance(found, Partial)
    assert found.metric < 0.91 - 0.02


def test_the_batches_after_the_last_look_are_not_computed():
    asked = []

    def lazily():
        for number in range(10):
            asked.append(number)
            yield 0.0, 100

    EarlyStop(DENSE, max_drop=0.02)(lazily())
    assert asked == [0]


def test_other_samples_than_the_dense_models_are_refused():
    stop = EarlyStop(DENSE, max_drop=0.02)
    with pytest.raises(TaskError, match="gave 900 samples, but 1000 with the dense model"):
        stop([(90.0, 100)] * 9)
