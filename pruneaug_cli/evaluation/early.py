r"""Evaluations that end as soon as the metric can hardly reach what the search is about.

The metric is the mean of N scores in [0, 1], one per sample, and is seen batch after batch, in an
order that has nothing to do with the scores. After n samples with mean x the final mean is still to
be :math:`\mu \ge f`, the floor, with x below f. Whatever the scores, the chance of so low an x is
at most

.. math:: \min\{ e^{-n\,D(x, f)},\; e^{-(N-n)\,D(y, f)} \} , \quad y = \frac{N f - n x}{N - n} ,
          \quad D(p, q) = p \ln\frac pq + (1 - p) \ln\frac{1 - p}{1 - q} :

the first for the samples seen, the second for those not seen, which are a sample without
replacement too and would have to have the mean y. Where y is above 1 the floor is out of reach for
certain. The evaluation ends where that chance is below ``ERROR`` divided by the number of looks
(Boole): a plan that reaches the floor is taken for hopeless with probability ``ERROR`` at most.

References:
    Hoeffding, "Probability Inequalities for Sums of Bounded Random Variables", JASA 58, 1963,
    theorem 1, which section 6 extends to samples without replacement. Serfling, "Probability
    Inequalities for the Sum in Sampling without Replacement", Ann. Statist. 2, 1974, has a bound of
    which the second one above is the sharper kin. Maron and Moore, "Hoeffding Races", NIPS 1993,
    for the use.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from pruneaug_cli.core import Partial
from pruneaug_cli.errors import TaskError

ERROR = 1e-3
"""Probability with which one evaluation may end early of a plan that reaches the floor."""

Batches = Iterable[tuple[float, int]]
"""Per batch: the sum of its samples' scores, and how many samples."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Scores of several batches together."""

    total: float = 0.0
    samples: int = 0
    batches: int = 0

    @property
    def mean(self) -> float:
        """The metric over these batches."""
        return self.total / self.samples

    def plus(self, batch: tuple[float, int]) -> "Tally":
        """With one batch more."""
        return Tally(self.total + batch[0], self.samples + batch[1], self.batches + 1)


def tallies(batches: Batches) -> tuple[Tally, ...]:
    """What is known after each of the batches; the last is of all.

    Raises:
        TaskError: there is none.
    """
    seen = tuple(itertools.accumulate(batches, Tally.plus, initial=Tally()))[1:]
    if not seen:
        raise TaskError("evaluate_batches() gave no batch")
    return seen


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """When to end an evaluation: static, so that all workers judge alike.

    Attributes:
        prefixes: the dense model's scores after each batch of the same samples.
        max_drop: the largest drop that is of interest.
        higher_is_better: which way the metric points.
    """

    prefixes: tuple[Tally, ...]
    max_drop: float
    higher_is_better: bool = True

    @property
    def dense(self) -> Tally:
        """The dense model's scores on all samples."""
        return self.prefixes[-1]

    def __call__(self, batches: Batches) -> float | Partial:
        """The metric over all batches, or over those up to the one that settled it.

        Raises:
            TaskError: other samples than the dense model was given.
        """
        seen = Tally()
        for batch in batches:
            seen = seen.plus(batch)
            if seen.samples < self.dense.samples and self._is_hopeless(seen):
                samples = seen.samples, self.dense.samples
                return Partial(self._estimate(seen), *samples, self.max_drop)
        if seen.samples != self.dense.samples:
            raise TaskError(
                f"evaluate_batches() gave {seen.samples} samples, "
                f"but {self.dense.samples} with the dense model",
                hint="the metric of every plan must be over the same samples",
            )
        return seen.mean

    def _estimate(self, seen: Tally) -> float:
        """The final metric, from the drop so far: what is hard in a sample is so for both models.

        Never one that would keep the drop.
        """
        before = self.prefixes[min(seen.batches, len(self.prefixes)) - 1]
        if before.samples != seen.samples:  # other batches than the dense model's
            return seen.mean
        drop = before.mean - seen.mean if self.higher_is_better else seen.mean - before.mean
        least = self.max_drop + 0.5 / self.dense.samples
        sign = -1.0 if self.higher_is_better else 1.0
        return min(max(self.dense.mean + sign * max(drop, least), 0.0), 1.0)

    def _is_hopeless(self, seen: Tally) -> bool:
        floor, mean = self.dense.mean - self.max_drop, seen.mean
        if not self.higher_is_better:
            floor, mean = 1.0 - self.dense.mean - self.max_drop, 1.0 - seen.mean
        looks = max(self.dense.batches - 1, 1)
        return chance_to_reach(floor, mean, seen.samples, self.dense.samples) * looks < ERROR


def chance_to_reach(floor: float, mean: float, seen: int, samples: int) -> float:
    """Bound on the chance to see so low a mean if that of all samples is at least the floor.

    Args:
        floor: what the mean of all samples has to reach.
        mean: of the samples seen.
        seen: how many, at least 1.
        samples: how many there are, more than ``seen``.
    """
    if mean >= floor:
        return 1.0
    unseen = samples - seen
    needed = (samples * floor - seen * mean) / unseen
    if needed > 1.0 + 1e-9:  # as in (2000 * 0.9 - 1000 * 0.8) / 1000
        return 0.0
    exponent = max(seen * _divergence(mean, floor), unseen * _divergence(min(needed, 1.0), floor))
    return math.exp(-exponent)


def _divergence(p: float, q: float) -> float:
    """Kullback and Leibler's, between coins that show heads with probability p and q."""
    first = p * math.log(p / q) if p > 0.0 else 0.0
    second = (1.0 - p) * math.log((1.0 - p) / (1.0 - q)) if p < 1.0 and q < 1.0 else 0.0
    return first + second if q < 1.0 or p == 1.0 else math.inf
