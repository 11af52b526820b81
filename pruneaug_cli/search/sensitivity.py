r"""How much each layer's harm matters to the metric, learnt from the trials.

.. math:: d(p) = e^a \Big( \sum_l c_l \, h_l(p_l) \Big)^b , \qquad c_l = e^{u_l}

``d`` is the drop of plan p, ``h_l`` the harm of its option for layer l, ``c_l`` the layer's
coefficient: what the knapsack multiplies harms with. The fit is Bayesian least squares between
logarithms, in which errors of a metric are about even, with ``u_l ~ N(0, 1)`` (harms are within a
factor of e of the truth, until trials say otherwise) and ``b ~ N(1, 0.5)``. Trials near the drop
that the search is about weigh most: there the law has to hold, not everywhere. The posterior is
taken as normal around its mode (Laplace), and is sampled to propose what might be true.

References:
    Russo et al., "A Tutorial on Thompson Sampling", 2018, section 5, for the sampling. Frantar and
    Alistarh, "SPDY", ICML 2022, find the coefficients by random local moves instead.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_PRIOR_DEVIATION = 1.0  # of a coefficient's logarithm
_POWER_DEVIATION = 0.5
_SCALE_DEVIATION = 3.0
_NOISE = 0.15  # of a drop's logarithm, near the reference drop
_WIDTH = 1.0  # how far from the reference, in logarithms, a trial still counts fully
_STEPS = 30


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity:
    """A law between a plan's harms and its drop.

    Attributes:
        scale: ``a``.
        power: ``b``, positive.
        coefficients: ``c``, shape (layers,).
    """

    scale: float
    power: float
    coefficients: Floats

    def total_for(self, drop: float) -> float:
        """The total of coefficient times harm at which this drop is expected."""
        return float(np.exp((np.log(drop) - self.scale) / self.power))


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What is believed about the law: normal in (a, b, u)."""

    mode: Floats
    spread: Floats  # Cholesky factor of the covariance, lower

    def sample(self, rng: np.random.Generator, boldness: float) -> Sensitivity:
        """A law that might be true; ``boldness`` multiplies the deviation (0: the mode)."""
        drawn = self.mode + boldness * (self.spread @ rng.standard_normal(self.mode.size))
        power = float(np.clip(drawn[1], 0.2, 5.0))
        return Sensitivity(float(drawn[0]), power, np.exp(drawn[2:]))


def fit_sensitivity(harms: Floats, drops: Floats, *, reference: float) -> Posterior:
    """Fit the law to trials.

    Args:
        harms: harm of each trial's option for each layer; shape (trials, layers). Rows without
            any harm say nothing and are passed over.
        drops: drop of each trial; negative ones count as none. Shape (trials,).
        reference: the positive drop that the search is about.
    """
    used = harms.sum(axis=1) > 0.0
    harms, drops = harms[used], np.maximum(drops[used], 0.0)
    floor = 0.25 * reference  # below it drops are mostly noise: logarithms are taken of d + floor
    observed = np.log(drops + floor)
    distance = (observed - np.log(reference + floor)) / _WIDTH
    weights = np.sqrt(1.0 / (1.0 + distance**2)) / _NOISE
    prior = _prior(harms, drops)
    precision = _precision(harms.shape[1])
    theta = prior.copy()
    damping = 1e-2
    cost, hessian, gradient = _normal(theta, harms, observed, floor, weights, prior, precision)
    for _ in range(_STEPS):
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
        trial = theta - step
        trial[1] = np.clip(trial[1], 0.2, 5.0)
        found = _normal(trial, harms, observed, floor, weights, prior, precision)
        if found[0] < cost:
            done = cost - found[0] < 1e-6 * cost
            theta, (cost, hessian, gradient) = trial, found
            damping *= 0.3
            if done:
                break
        else:
            damping *= 5.0
    return Posterior(theta, np.linalg.cholesky(np.linalg.inv(hessian)))


def _prior(harms: Floats, drops: Floats) -> Floats:
    """Mode of the prior: all coefficients 1, power 1, and the scale that fits the median."""
    theta = np.zeros(2 + harms.shape[1])
    theta[1] = 1.0
    ratios = drops[drops > 0.0] / harms.sum(axis=1)[drops > 0.0]
    theta[0] = float(np.log(np.median(ratios))) if ratios.size else 0.0
    return theta


def _precision(layers: int) -> Floats:
    deviations = np.full(2 + layers, _PRIOR_DEVIATION)
    deviations[:2] = _SCALE_DEVIATION, _POWER_DEVIATION
    return 1.0 / deviations**2


def _normal(
    theta: Floats,
    harms: Floats,
    observed: Floats,
    floor: float,
    weights: Floats,
    prior: Floats,
    precision: Floats,
) -> tuple[float, Floats, Floats]:
    """Cost, Gauss-Newton matrix and gradient of the least-squares problem at ``theta``."""
    parts = harms * np.exp(theta[2:])
    total = parts.sum(axis=1)
    drop = np.exp(theta[0] + theta[1] * np.log(total))
    slope = drop / (drop + floor)
    jacobian = np.empty((harms.shape[0], theta.size))
    jacobian[:, 0] = slope
    jacobian[:, 1] = slope * np.log(total)
    jacobian[:, 2:] = (slope * theta[1] / total)[:, None] * parts
    jacobian *= weights[:, None]
    residual = weights * (np.log(drop + floor) - observed)
    away = theta - prior
    cost = 0.5 * float(residual @ residual + away @ (precision * away))
    hessian = jacobian.T @ jacobian + np.diag(precision)
    return cost, hessian, jacobian.T @ residual + precision * away
