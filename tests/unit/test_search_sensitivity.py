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
    law = fit_sensitivity(harms, drops, reference=0.01).sample(np.random.default_rng(0), 0.0)
    share = law.coefficients / np.exp(np.log(law.coefficients).mean())
    # the prior pulls by its share of the evidence, a few per cent with 400 trials
    np.testing.assert_allclose(share, TRUTH, rtol=0.1)
    assert law.power == pytest.approx(1.2, abs=0.1)


def test_total_for_is_the_inverse_of_the_law():
    harms, drops = data(400)
    law = fit_sensitivity(harms, drops, reference=0.01).sample(np.random.default_rng(0), 0.0)
    total = law.total_for(0.01)
    assert np.exp(law.scale) * total**law.power == pytest.approx(0.01)


def test_without_evidence_all_layers_count_alike():
    nothing = fit_sensitivity(np.zeros((1, LAYERS)), np.zeros(1), reference=0.01)
    law = nothing.sample(np.random.default_rng(0), 0.0)
    np.testing.assert_array_equal(law.coefficients, np.ones(LAYERS))


def test_evidence_narrows_what_is_sampled():
    def width(trials):
        posterior = fit_sensitivity(*data(trials), reference=0.01)
        rng = np.random.default_rng(1)
        return np.std([np.log(posterior.sample(rng, 1.0).coefficients) for _ in range(200)])

    assert width(100) < width(3)


def test_drops_of_plans_better_than_dense_count_as_none():
    harms, drops = data(30)
    better = fit_sensitivity(harms, np.where(drops < 0.002, -0.01, drops), reference=0.01)
    none = fit_sensitivity(harms, np.where(drops < 0.002, 0.0, drops), reference=0.01)
    np.testing.assert_array_equal(better.mode, none.mode)
