"""What is expected of plans: from their divergence where there is one, else from their drop."""

import numpy as np
import pytest

from pruneaug_cli.core import Plan
from pruneaug_cli.search import Trial
from pruneaug_cli.search.forecast import forecast

LAYERS, REFERENCE, NOISE = 12, 0.01, 0.004
TRUTH = np.exp(np.linspace(-1.0, 1.0, LAYERS))


def made(trials, *, divergences, seed=0):
    """Plans about the reference: drops are 0.3 times the divergence, and noise."""
    rng = np.random.default_rng(seed)
    harms = rng.gamma(1.0, 0.03, (trials, LAYERS)) / LAYERS
    signals = harms @ TRUTH
    drops = 0.3 * signals + NOISE * rng.standard_normal(trials)
    return (
        harms,
        drops,
        [
            Trial(n, Plan.dense(("a",)), 1.0, 0.9 - drop, 0.0, "fit", divergence=float(signal))
            if divergences
            else Trial(n, Plan.dense(("a",)), 1.0, 0.9 - drop, 0.0, "fit")
            for n, (drop, signal) in enumerate(zip(drops, signals, strict=True))
        ],
    )


def error_of_coefficients(known):
    share = known.posterior.law.coefficients
    return float(np.std(np.log(share / TRUTH)))


def test_divergences_tell_the_coefficients_that_noisy_drops_hide():
    told = forecast(*made(40, divergences=True), reference=REFERENCE)
    hidden = forecast(*made(40, divergences=False), reference=REFERENCE)
    assert error_of_coefficients(told) < 0.3
    assert error_of_coefficients(told) < 0.6 * error_of_coefficients(hidden)


@pytest.mark.parametrize("divergences", [True, False])
def test_drops_are_forecast_with_their_noise(divergences):
    known = forecast(*made(150, divergences=divergences), reference=REFERENCE)
    harms, *_ = made(100, divergences=False, seed=1)
    law = known.posterior.law
    expected = known.drops(law, harms @ law.coefficients)
    near = np.abs(0.3 * harms @ TRUTH - REFERENCE) < 0.3 * REFERENCE
    assert near.sum() > 10
    assert np.abs(expected - 0.3 * harms @ TRUTH)[near].mean() < 0.15 * REFERENCE
    assert known.error == pytest.approx(NOISE, rel=0.3)


def test_before_any_trial_drops_are_what_harms_say():
    known = forecast(np.empty((0, LAYERS)), np.empty(0), [], reference=REFERENCE)
    totals = np.array([0.5, 1.0, 2.0]) * REFERENCE
    np.testing.assert_allclose(known.drops(known.posterior.law, totals), totals)


def test_trials_without_a_divergence_are_passed_over_where_others_have_one():
    harms, drops, trials = made(30, divergences=True)
    known = forecast(harms, drops, trials, reference=REFERENCE)
    flying = Trial(30, Plan.dense(("a",)), 1.0, 0.0, 0.0, "fit")
    more = forecast(
        np.vstack([harms, harms[:1]]), np.append(drops, 0.9), [*trials, flying], reference=REFERENCE
    )
    np.testing.assert_array_equal(more.posterior.mode, known.posterior.mode)
    assert more.error == known.error


def test_the_best_try_keeps_the_drop_by_a_margin_where_drops_are_sharp_and_risks_more_where_not():
    harms, _, trials = made(150, divergences=True)
    totals = np.linspace(0.0, 3.0, 301) * REFERENCE / 0.3
    latencies_s = 1.0 / (1.0 + totals / totals[-1])
    best, drops_of_best_try = 0.95, []
    for noise in (0.0005, 0.008):
        chance = np.random.default_rng(2).standard_normal(150)
        known = forecast(harms, 0.3 * harms @ TRUTH + noise * chance, trials, reference=REFERENCE)
        law = known.posterior.law
        worth = known.expected_improvement(law, totals, latencies_s, best)
        assert not worth[latencies_s >= best].any()
        assert worth[latencies_s < best].all()
        drops_of_best_try.append(known.drops(law, totals)[worth.argmax()])
    sharp, noisy = drops_of_best_try
    assert 0.7 * REFERENCE < sharp < REFERENCE < noisy
