r"""What the trials say of plans that were not evaluated: their drop, and how sure that is.

In two steps, because they are not equally well known. The *signal* of a plan is a function of its
harms, the law of :mod:`~pruneaug_cli.search.sensitivity`; its drop is a straight line of the signal
near the drop that the search is about, with a normal error:

.. math:: d_p = \beta_0 + \beta_1 s_p + \epsilon_p , \qquad
   \mathrm{cov}(\epsilon_p, \epsilon_q) = \sigma^2 (\tau k_{pq}^2 + (1 - \tau) [p = q])

The signal is the divergence of the outputs where trials carry it. That has hardly any noise, so a
few trials tell the coefficients of many layers; the chance in which samples a plan gets wrong stays
in the error. Without divergences the drop is its own signal.

Plans that have much in common get the same samples wrong. What pruning does to the outputs is a sum
over layers, of energy :math:`a_{pl} = c_l h_l(p_l)`; two plans share it where they make the same
choice, and as far as the sparser choice contains the other where only the block is the same:

.. math:: k_{pq} = \frac{\sum_l w_{pql} \min(a_{pl}, a_{ql})}{\sqrt{\sum_l a_{pl} \sum_l a_{ql}}}

with w = 1 for the same block and 1/2 for another. Of 235 plans of ResNet-20 about a drop of one
point, left out one at a time, drops deviate by 0.53 points from a curve of their harms, and by 0.40
from that and what plans like them have in common; errors of plans with k above 0.95 have a
correlation of 0.4.

A plan is worth an evaluation by the improvement to be expected from it: the chance that it keeps
the drop times the logarithm of what it saves; or, within a target latency, by how much smaller the
drop becomes.

References:
    Jones, Schonlau and Welch, "Efficient Global Optimization of Expensive Black-Box Functions",
    1998; Gardner et al., "Bayesian Optimization with Inequality Constraints", ICML 2014.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr

from pruneaug_cli.search.line import PRIOR_TRIALS, Line, fit_line
from pruneaug_cli.search.sensitivity import Floats, Posterior, Sensitivity, fit_sensitivity
from pruneaug_cli.search.trial import Trial

Ints = npt.NDArray[np.int64]

_OF_DIVERGENCES = {"noise": 0.1, "prior": 0.5}
_OF_DROPS = {"noise": 0.15, "prior": 1.0}  # which harms predict less well, and chance blurs
_PRIOR_ERROR = 0.4  # of a drop that is expected, in units of the reference
_SHARED = 0.8  # the part of the errors' variance that similar plans have in common
_FAR = 1e-3  # trials of less weight say nothing of others, and would cost as much as those that do
_OTHER_BLOCK = 0.5  # of a layer's energy is shared by choices of another block


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Plans as arrays of shape (plans, layers).

    Attributes:
        harms: of the layers' choices.
        blocks: a number for each block, of the layers' choices.
    """

    harms: Floats
    blocks: Ints

    def __getitem__(self, rows: slice | Sequence[int] | npt.NDArray[Any]) -> "Encoded":
        """Some of the plans."""
        return Encoded(self.harms[rows], self.blocks[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What is believed after some trials.

    Attributes:
        posterior: of the law between harms and signal.
        reference: the drop that the search is about, positive.
        line: between signal and drop; its slope is positive.
        error: standard deviation of a drop about the line.
        noise: of a signal about the law, relative: standard deviation.
        known: the trials' plans, without those far from the reference.
        residuals: their drops less the line, in units of ``error``.
        weights: how far each counts, above 0, at most 1.
    """

    posterior: Posterior
    reference: float
    line: Line
    error: float
    noise: float
    known: Encoded
    residuals: Floats
    weights: Floats

    def on_line(self, law: Sensitivity, totals: Floats) -> Floats:
        """Drops by the line alone, from totals of coefficient times harm; shape (plans,)."""
        return self.line(law.signals(totals))

    def drops(self, plans: Encoded) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the drop that an evaluation would find; (plans,) each."""
        law = self.posterior.law
        mean = self._expected(plans)
        if not len(self.residuals):
            return mean, np.full(mean.shape, self.error)
        shared = _SHARED * _alike(self.known, self.known, law)
        factor = cho_factor(shared + np.diag((1.0 - _SHARED) / self.weights))
        across = _SHARED * _alike(plans, self.known, law)
        mean = mean + self.error * (across @ cho_solve(factor, self.residuals))
        left = 1.0 - np.einsum("pt,tp->p", across, cho_solve(factor, across.T))
        return mean, self.error * np.sqrt(np.maximum(left, 1.0 - _SHARED))

    def faster(
        self, plans: Encoded, latencies_s: Floats, best_s: float, *, cautious: bool = False
    ) -> Floats:
        """Expected improvement of the latency: mean of its logarithm, shape (plans,).

        Args:
            plans: to judge.
            latencies_s: of each, seconds.
            best_s: latency of the best plan so far, seconds.
            cautious: the drop that is expected must be kept too, not only that which is found.
        """
        mean, deviation = self.drops(plans)
        kept = ndtr((self.reference - mean) / deviation)
        if cautious:
            kept *= ndtr((self.reference - self._expected(plans)) / self.doubt)
        return np.asarray(kept * np.log(best_s / np.minimum(latencies_s, best_s)))

    def better(self, plans: Encoded, least_drop: float, *, cautious: bool = False) -> Floats:
        """Expected improvement of the drop, in its own unit, shape (plans,).

        Args:
            plans: to judge.
            least_drop: of the best plan so far.
            cautious: no plan counts as losing less than what is expected of it.
        """
        mean, deviation = self.drops(plans)
        better = _mean_below(least_drop, mean, deviation)
        if cautious:
            better -= _mean_below(np.minimum(self._expected(plans), least_drop), mean, deviation)
        return better

    @property
    def doubt(self) -> float:
        """Standard deviation of what is expected of a plan near the reference.

        Its signal is known only once it was evaluated.
        """
        return self.noise * self.line.slope * self.line.about

    def _expected(self, plans: Encoded) -> Floats:
        law = self.posterior.law
        return self.on_line(law, plans.harms @ law.coefficients)


def forecast(
    plans: Encoded, drops: Floats, trials: Sequence[Trial], *, reference: float
) -> Forecast:
    """Fit to trials.

    Args:
        plans: of the trials.
        drops: of each trial; shape (trials,).
        trials: where divergences are. Those without, among others that have one, are passed over.
        reference: the positive drop that the search is about.
    """
    diverged = [trial.divergence is not None for trial in trials]
    used = plans.harms.sum(axis=1) > 0.0
    if any(diverged):
        used &= diverged
        signals = np.array([trial.divergence or 0.0 for trial in trials])[used]
    else:
        signals = np.maximum(drops[used], 0.0)
    plans, drops = plans[used], drops[used]
    line = fit_line(signals, drops, reference)
    kind = _OF_DIVERGENCES if any(diverged) else _OF_DROPS
    posterior = fit_sensitivity(plans.harms, signals, reference=line.about, **kind)
    law = posterior.law
    explained = law.signals(plans.harms @ law.coefficients)
    residuals, weights = drops - line(explained), line.weights(explained)
    squares = PRIOR_TRIALS * (_PRIOR_ERROR * reference) ** 2 + weights @ residuals**2
    error = float(np.sqrt(squares / (PRIOR_TRIALS + weights.sum())))
    error = max(error, 1e-3 * reference)
    near = weights > _FAR
    return Forecast(
        posterior, reference, line, error, kind["noise"], plans[near], residuals[near] / error,
        weights[near],
    )  # fmt: skip


def _mean_below(bound: Floats | float, mean: Floats, deviation: Floats) -> Floats:
    """By how much normal numbers are below a bound on average, counting 0 for those above."""
    z = (bound - mean) / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(deviation * (z * ndtr(z) + density))


def _alike(some: Encoded, others: Encoded, law: Sensitivity) -> Floats:
    """The square of ``k`` between plans; shape (some, others)."""
    energies, other_energies = some.harms * law.coefficients, others.harms * law.coefficients
    shared = np.zeros((len(energies), len(other_energies)))
    for layer in range(energies.shape[1]):  # a table per layer: all at once would not fit memory
        least = np.minimum.outer(energies[:, layer], other_energies[:, layer])
        same = some.blocks[:, layer, None] == others.blocks[None, :, layer]
        shared += least * np.where(same, 1.0, _OTHER_BLOCK)
    squares = np.outer(energies.sum(axis=1), other_energies.sum(axis=1))
    return np.asarray(shared**2 / np.maximum(squares, np.finfo(float).tiny))
