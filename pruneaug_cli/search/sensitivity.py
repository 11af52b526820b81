r"""How much each layer's harm matters to a signal of plans, learnt from the trials.

.. math:: s(p) = e^a \Big( \sum_l c_l \, h_l(p_l) \Big)^b , \qquad c_l = e^{u_l}

``s`` is the signal of plan p, its drop or another sign of it, ``h_l`` the harm of its option for
layer l, ``c_l`` the layer's coefficient: what the knapsack multiplies harms with. The fit is
Bayesian least squares between logarithms, in which errors are about even, with
``u_l ~ N(0, prior)`` (harms are right up to a factor of e^prior, until trials say otherwise) and
``b ~ N(1, 0.5)``.
Trials near the signal that the search is about weigh most: there the law has to hold, not
everywhere. The posterior is taken as normal around its mode (Laplace), and is sampled to propose
what might be true.

References:
    Russo et al., "A Tutorial on Thompson Sampling", 2018, section 5, for the sampling. Frantar and
    Alistarh, "SPDY", ICML 2022, find the coefficients by random local moves instead.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_POWER_DEVIATION = 0.5
_SCALE_DEVIATION = 3.0
_WIDTH = 1.0  # how far from the reference, in logarithms, a trial still counts fully
_STEPS = 30


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity:
    """A law between a plan's harms and its signal.

    Attributes:
        scale: ``a``.
        power: ``b``, positive.
        coefficients: ``c``, shape (layers,).
    """

    scale: float
    power: float
    coefficients: Floats

    def signals(self, totals: Floats) -> Floats:
        """The signals of plans, from their totals of coefficient times harm, none negative."""
        return np.asarray(np.exp(self.scale) * totals**self.power)


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What is believed about the law: normal in (a, b, u)."""

    mode: Floats
    spread: Floats  # Cholesky factor of the covariance, lower

    @property
    def law(self) -> Sensitivity:
        """The most likely law."""
        return _law(self.mode)

    def sample(self, rng: np.random.Generator, boldness: float) -> Sensitivity:
        """A law that might be true; ``boldness`` multiplies the deviation (0: the mode)."""
        return _law(self.mode + boldness * (self.spread @ rng.standard_normal(self.mode.size)))


def _law(theta: Floats) -> Sensitivity:
    return Sensitivity(float(theta[0]), float(np.clip(theta[1], 0.2, 5.0)), np.exp(theta[2:]))


def fit_sensitivity(
    harms: Floats, signals: Floats, *, reference: float, noise: float, prior: float
) -> Posterior:
    """Fit the law to trials.

    Args:
        harms: harm of each trial's option for each layer; shape (trials, layers). Rows without
            any harm say nothing and are passed over.
        signals: signal of each trial, none negative. Shape (trials,).
        reference: the positive signal that the search is about.
        noise: of a signal's logarithm, near the reference: standard deviation.
        prior: of a coefficient's logarithm about 0: standard deviation before any trial.
    """
    used = harms.sum(axis=1) > 0.0
    harms, signals = harms[used], signals[used]
    floor = 0.25 * reference  # below it signals are mostly noise: logarithms are taken of s + floor
    observed = np.log(signals + floor)
    distance = (observed - np.log(reference + floor)) / _WIDTH
    weights = np.sqrt(1.0 / (1.0 + distance**2)) / noise
    start = _start(harms, signals)
    precision = _precision(harms.shape[1], prior)
    theta = start.copy()
    damping = 1e-2
    cost, hessian, gradient = _normal(theta, harms, observed, floor, weights, start, precision)
    for _ in range(_STEPS):
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
        trial = theta - step
        trial[1] = np.clip(trial[1], 0.2, 5.0)
        found = _normal(trial, harms, observed, floor, weights, start, precision)
        if found[0] < cost:
            done = cost - found[0] < 1e-6 * cost
            theta, (cost, hessian, gradient) = trial, found
            damping *= 0.3
            if done:
                break
        else:
            damping *= 5.0
    return Posterior(theta, np.linalg.cholesky(np.linalg.inv(hessian)))


def _start(harms: Floats, signals: Floats) -> Floats:
    """Mode of the prior: all coefficients 1, power 1, and the scale that fits the median."""
    theta = np.zeros(2 + harms.shape[1])
    theta[1] = 1.0
    ratios = signals[signals > 0.0] / harms.sum(axis=1)[signals > 0.0]
    theta[0] = float(np.log(np.median(ratios))) if ratios.size else 0.0
    return theta


def _precision(layers: int, prior: float) -> Floats:
    deviations = np.full(2 + layers, prior)
    deviations[:2] = _SCALE_DEVIATION, _POWER_DEVIATION
    return 1.0 / deviations**2


def _normal(
    theta: Floats,
    harms: Floats,
    observed: Floats,
    floor: float,
    weights: Floats,
    start: Floats,
    precision: Floats,
) -> tuple[float, Floats, Floats]:
    """Cost, Gauss-Newton matrix and gradient of the least-squares problem at ``theta``."""
    parts = harms * np.exp(theta[2:])
    total = parts.sum(axis=1)
    signal = np.exp(theta[0] + theta[1] * np.log(total))
    slope = signal / (signal + floor)
    jacobian = np.empty((harms.shape[0], theta.size))
    jacobian[:, 0] = slope
    jacobian[:, 1] = slope * np.log(total)
    jacobian[:, 2:] = (slope * theta[1] / total)[:, None] * parts
    jacobian *= weights[:, None]
    residual = weights * (np.log(signal + floor) - observed)
    away = theta - start
    cost = 0.5 * float(residual @ residual + away @ (precision * away))
    hessian = jacobian.T @ jacobian + np.diag(precision)
    return cost, hessian, jacobian.T @ residual + precision * away
