"""The fitted law finds the coefficients that made the data, and its prior where there is none."""

import numpy as np
import pytest

from pruneaug_cli.search.sensitivity import fit_sensitivity

LAYERS = 5
TRUTH = np.exp([-1.0, -0.5, 0.0, 0.5, 1.0])  # geometric mean 1, as the prior has it


def data(trials, seed=0):
    rng = np.random.default_rng(seed)
    harms = rng.uniform(0.0, 0.1, (trials, LAYERS)) * (rng.random((trials, LAYERS)) < 0.5)
    return harms, 0.3 * (harms @ TRUTH) ** 1.2


def test_finds_the_coefficients_that_made_the_drops():
    harms, drops = data(400)
    law = fit_sensitivity(harms, drops, reference=0.01, noise=0.1, prior=1.0).law
    share = law.coefficients / np.exp(np.log(law.coefficients).mean())
    # the prior pulls by its share of the evidence, a few per cent with 400 trials
    np.testing.assert_allclose(share, TRUTH, rtol=0.1)
    assert law.power == pytest.approx(1.2, abs=0.1)


def test_the_law_says_what_made_it():
    harms, drops = data(400)
    law = fit_sensitivity(harms, drops, reference=0.01, noise=0.1, prior=1.0).law
    near = np.abs(drops - 0.01) < 0.005
    np.testing.assert_allclose(law.signals(harms @ law.coefficients)[near], drops[near], rtol=0.05)


def test_without_evidence_all_layers_count_alike():
    nothing = fit_sensitivity(
        np.zeros((1, LAYERS)), np.zeros(1), reference=0.01, noise=0.1, prior=1.0
    )
    law = nothing.law
    np.testing.assert_array_equal(law.coefficients, np.ones(LAYERS))


def test_evidence_narrows_what_is_sampled():
    def width(trials):
        posterior = fit_sensitivity(*data(trials), reference=0.01, noise=0.1, prior=1.0)
        rng = np.random.default_rng(1)
        drawn = [np.log(posterior.sample(rng, 1.0).coefficients) for _ in range(200)]
        return np.std(drawn, axis=0).mean()

    assert width(100) < width(3)
