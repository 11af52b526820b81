"""What is expected of plans: from their divergence where there is one, else from their drop."""

import numpy as np
import pytest

from pruneaug_cli.core import Plan
from pruneaug_cli.search import Trial
from pruneaug_cli.search.forecast import Encoded, forecast

LAYERS, REFERENCE, NOISE = 12, 0.01, 0.004
TRUTH = np.exp(np.linspace(-1.0, 1.0, LAYERS))


def some_plans(count, *, seed=0):
    """With drops about the reference, where those are 0.3 times the divergence."""
    rng = np.random.default_rng(seed)
    harms = rng.gamma(1.0, 0.03, (count, LAYERS)) / LAYERS
    return Encoded(harms, rng.integers(0, 3, (count, LAYERS)))


def true_drops(plans):
    return 0.3 * plans.harms @ TRUTH


def fitted(plans, drops, *, divergences):
    signals = plans.harms @ TRUTH
    trials = [
        Trial(number, Plan.dense(("a",)), 1.0, 0.9 - drop, 0.0, "fit")
        if not divergences
        else Trial(number, Plan.dense(("a",)), 1.0, 0.9 - drop, 0.0, "fit", divergence=signal)
        for number, (drop, signal) in enumerate(zip(drops, signals.tolist(), strict=True))
    ]
    return forecast(plans, drops, trials, reference=REFERENCE)


def noisy(plans, noise=NOISE):
    return true_drops(plans) + noise * np.random.default_rng(1).standard_normal(len(plans.harms))


def error_of_coefficients(known):
    return float(np.std(np.log(known.posterior.law.coefficients / TRUTH)))


def test_divergences_tell_the_coefficients_that_noisy_drops_hide():
    plans = some_plans(40)
    told = fitted(plans, noisy(plans), divergences=True)
    hidden = fitted(plans, noisy(plans), divergences=False)
    assert error_of_coefficients(told) < 0.3
    assert error_of_coefficients(told) < 0.6 * error_of_coefficients(hidden)


@pytest.mark.parametrize("divergences", [True, False])
def test_drops_are_forecast_with_their_noise(divergences):
    plans, others = some_plans(150), some_plans(100, seed=1)
    known = fitted(plans, noisy(plans), divergences=divergences)
    mean, deviation = known.drops(others)
    truth = true_drops(others)
    near = np.abs(truth - REFERENCE) < 0.3 * REFERENCE
    assert near.sum() > 10
    assert np.abs(mean - truth)[near].mean() < 0.25 * REFERENCE
    assert known.error == pytest.approx(NOISE, rel=0.3)
    assert (deviation <= known.error).all()
    assert (deviation >= 0.4 * known.error).all()


def test_before_any_trial_drops_are_what_harms_say():
    nothing = some_plans(5)[:0]
    known = forecast(nothing, np.empty(0), [], reference=REFERENCE)
    plans = some_plans(3, seed=2)
    mean, deviation = known.drops(plans)
    np.testing.assert_allclose(mean, plans.harms.sum(axis=1))
    assert (deviation == known.error).all()


def test_trials_without_a_divergence_are_passed_over_where_others_have_one():
    plans = some_plans(30)
    known = fitted(plans, noisy(plans), divergences=True)
    signals = (plans.harms @ TRUTH).tolist()
    trials = [
        Trial(n, Plan.dense(("a",)), 1.0, 0.0, 0.0, "fit", divergence=signal)
        for n, signal in enumerate([*signals, None])
    ]
    rows = [*range(30), 0]
    more = forecast(plans[rows], noisy(plans)[rows], trials, reference=REFERENCE)
    np.testing.assert_array_equal(more.posterior.mode, known.posterior.mode)
    assert more.error == known.error


def test_a_plan_shares_the_error_of_those_it_has_much_in_common_with():
    plans = some_plans(60)
    drops = true_drops(plans)
    near = int(np.abs(drops - REFERENCE).argmin())
    drops[near] += REFERENCE
    known = fitted(plans, drops, divergences=True)
    like = plans[[near]]
    like.harms[0, 0] *= 0.9  # a little less of one layer
    other_blocks = Encoded(like.harms, like.blocks + 3)
    away = known.on_line(known.posterior.law, like.harms @ known.posterior.law.coefficients)
    (same,), (sure,) = known.drops(like)
    (other,), (less_sure,) = known.drops(other_blocks)
    assert same - away[0] > 0.4 * REFERENCE
    assert same - away[0] > 2.0 * (other - away[0])
    assert sure < less_sure


def test_the_best_try_keeps_the_drop_by_a_margin_where_drops_are_sharp_and_risks_more_where_not():
    plans = some_plans(150)
    # the same direction in the space of harms, more and more of it, in blocks nobody has tried
    steps = np.linspace(0.0, 3.0, 301)[:, None] * REFERENCE / 0.3 / TRUTH.sum()
    line = Encoded(np.broadcast_to(steps, (301, LAYERS)), np.full((301, LAYERS), 9))
    latencies_s = 1.0 / (1.0 + np.linspace(0.0, 1.0, 301))
    best_s, tried = 0.76, []
    for noise in (0.0005, 0.008):
        known = fitted(plans, noisy(plans, noise), divergences=True)
        worth = known.faster(line, latencies_s, best_s)
        assert not worth[latencies_s >= best_s].any()
        assert worth.argmax() > 0
        tried.append(true_drops(line)[worth.argmax()])
    sharp, bold = tried
    assert 0.7 * REFERENCE < sharp < 1.1 * REFERENCE < bold


def test_within_a_target_the_smaller_drop_is_worth_more_and_the_less_certain_one():
    plans = some_plans(60)
    known = fitted(plans, noisy(plans), divergences=True)
    order = np.argsort(known.drops(plans)[0])
    worth = known.better(plans, REFERENCE)
    assert (worth > 0.0).all()
    assert worth[order[0]] > worth[order[-1]]
    again, new = (
        plans[[order[30]]],
        Encoded(plans.harms[[order[30]]], plans.blocks[[order[30]]] + 3),
    )
    assert known.better(new, -REFERENCE) > known.better(again, -REFERENCE)
