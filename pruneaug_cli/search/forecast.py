r"""What the trials say of plans that were not evaluated: their drop, and how sure that is.

In two steps, because they are not equally well known. The *signal* of a plan is a function of its
harms, the law of :mod:`~pruneaug_cli.search.sensitivity`; its drop is a straight line of the signal
near the drop that the search is about, with a normal error:

.. math:: d \sim N(\beta_0 + \beta_1 s,\, \sigma^2)

The signal is the divergence of the outputs where trials carry it. That has hardly any noise, so a
few trials tell the coefficients of many layers; the chance in which images a plan gets wrong stays
in :math:`\sigma`. Without divergences the drop is its own signal.

A plan is worth an evaluation by the improvement to be expected from it
(:meth:`Forecast.expected_improvement`): where drops are noisy, a faster plan that probably loses
too much may well be the better try.

References:
    Jones, Schonlau and Welch, "Efficient Global Optimization of Expensive Black-Box Functions",
    1998; Gardner et al., "Bayesian Optimization with Inequality Constraints", ICML 2014: there too
    improvement times the chance to keep the constraint.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from pruneaug_cli.search.sensitivity import Floats, Posterior, Sensitivity, fit_sensitivity
from pruneaug_cli.search.trial import Trial

_SIGNAL_NOISE = 0.1  # of a divergence's logarithm: what the law does not explain
_DROP_NOISE = 0.3  # of a drop's
_PRIOR_ERROR = 0.5  # of a drop that is expected, in units of the reference
_PRIOR_TRIALS = 3.0  # that many trials know as much as the priors of the line
_NEAR = 0.7  # trials within that distance of the reference, in logarithms, make the line
_STEPS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What is believed after some trials.

    Attributes:
        posterior: of the law between harms and signal.
        reference: the drop that the search is about, positive.
        intercept, slope: of the line between signal and drop; the slope is positive.
        error: standard deviation of a drop about the line.
    """

    posterior: Posterior
    reference: float
    intercept: float
    slope: float
    error: float

    def drops(self, law: Sensitivity, totals: Floats) -> Floats:
        """The drops to expect of plans, from their totals of coefficient times harm."""
        return self.intercept + self.slope * law.signals(totals)

    def expected_improvement(
        self, law: Sensitivity, totals: Floats, latencies_s: Floats, best_s: float
    ) -> Floats:
        """How much faster than the best an evaluation makes the answer: mean of the logarithm.

        Args:
            law: one that might be true.
            totals: of coefficient times harm; shape (plans,).
            latencies_s: seconds; shape (plans,).
            best_s: latency of the best plan so far, seconds.
        """
        kept = ndtr((self.reference - self.drops(law, totals)) / self.error)
        return np.asarray(kept * np.log(best_s / np.minimum(latencies_s, best_s)))


def forecast(
    harms: Floats, drops: Floats, trials: Sequence[Trial], *, reference: float
) -> Forecast:
    """Fit to trials.

    Args:
        harms: harm of each trial's option for each layer; shape (trials, layers).
        drops: of each trial; shape (trials,).
        trials: where divergences are. Those without, among others that have one, are passed over.
        reference: the positive drop that the search is about.
    """
    has = [trial.divergence is not None for trial in trials]
    if any(has):
        harms, drops = harms[has], drops[has]
        signals = np.array([t.divergence for t, known in zip(trials, has, strict=True) if known])
    else:
        signals = np.maximum(drops, 0.0)
    about = _signal_at(signals, drops, reference)
    posterior = fit_sensitivity(
        harms, signals, reference=about, noise=_SIGNAL_NOISE if any(has) else _DROP_NOISE
    )
    used = harms.sum(axis=1) > 0.0
    law = posterior.law
    explained = law.signals(harms[used] @ law.coefficients)
    intercept, slope = _line(signals, drops, reference, about)
    weights = _weights(explained, about)
    residuals = drops[used] - (intercept + slope * explained)
    squares = _PRIOR_TRIALS * (_PRIOR_ERROR * reference) ** 2 + weights @ residuals**2
    error = float(np.sqrt(squares / (_PRIOR_TRIALS + weights.sum())))
    return Forecast(posterior, reference, intercept, slope, max(error, 1e-3 * reference))


def _signal_at(signals: Floats, drops: Floats, reference: float) -> float:
    """The signal at which the drop is expected to be the reference."""
    positive = signals > 0.0
    if not positive.any():
        return reference
    signals, drops = signals[positive], drops[positive]
    about = float(signals[np.argmin(np.abs(drops - reference))])
    for _ in range(_STEPS):
        intercept, slope = _line(signals, drops, reference, about)
        about = float(np.clip((reference - intercept) / slope, signals.min() / 4, signals.max()))
    return about


def _line(signals: Floats, drops: Floats, reference: float, about: float) -> tuple[float, float]:
    """Intercept and slope by least squares, trials with signals near ``about`` counting most.

    Before there are trials: through the origin, and the reference at ``about``.
    """
    x, y = signals / about, drops / reference
    weights = _weights(signals, about)
    design = np.stack([np.ones_like(x), x], axis=1)
    prior = np.array([0.0, 1.0])
    gram = design.T @ (weights[:, None] * design) + _PRIOR_TRIALS * np.diag([1.0, 0.1])
    found = prior + np.linalg.solve(gram, design.T @ (weights * (y - design @ prior)))
    slope = max(float(found[1]), 0.1)
    return float(found[0]) * reference, slope * reference / about


def _weights(signals: Floats, about: float) -> Floats:
    distance = np.log(np.maximum(signals, 1e-6 * about) / about) / _NEAR
    return np.asarray(np.exp(-0.5 * distance**2))
