r"""The drop as a straight line of a signal, near the drop that a search is about.

.. math:: d = \beta_0 + \beta_1 s

Which samples a plan gets wrong is chance in part; what all plans of a signal lose on average is
not. So the line also says what a plan can be expected to lose on other samples than those its
metric was measured on.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PRIOR_TRIALS = 2.0
"""So many trials know as much as the prior of the line."""

_NEAR = 0.7  # trials within that distance of ``about``, in logarithms, make the line
_STEPS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line; ``about``: the signal at which the drop is expected to be the reference."""

    intercept: float
    slope: float
    about: float

    def __call__(self, signals: Floats) -> Floats:
        """Drops of plans with these signals, on average; the same shape."""
        return self.intercept + self.slope * signals

    def weights(self, signals: Floats) -> Floats:
        """How far plans with these signals count, at most 1; the same shape."""
        return _weights(signals, self.about)


def fit_line(signals: Floats, drops: Floats, reference: float) -> Line:
    """Fit by least squares, trials with drops near the reference counting most.

    Before there are trials: through the origin, and the reference at the signal ``reference``.

    Args:
        signals: of the trials, at least 0; shape (trials,).
        drops: of the trials, in the metric's unit; shape (trials,).
        reference: the positive drop that the search is about.
    """
    about = _signal_at(signals, drops, reference)
    intercept, slope = _fit(signals, drops, reference, about)
    return Line(intercept, slope, about)


def _signal_at(signals: Floats, drops: Floats, reference: float) -> float:
    positive = signals > 0.0
    if not positive.any():
        return reference
    signals, drops = signals[positive], drops[positive]
    about = float(signals[np.argmin(np.abs(drops - reference))])
    for _ in range(_STEPS):
        intercept, slope = _fit(signals, drops, reference, about)
        about = float(np.clip((reference - intercept) / slope, signals.min() / 4, signals.max()))
    return about


def _fit(signals: Floats, drops: Floats, reference: float, about: float) -> tuple[float, float]:
    """Intercept and slope, with signals near ``about`` counting most."""
    x, y = signals / about, drops / reference
    weights = _weights(signals, about)
    design = np.stack([np.ones_like(x), x], axis=1)
    prior = np.array([0.0, 1.0])
    gram = design.T @ (weights[:, None] * design) + PRIOR_TRIALS * np.diag([1.0, 0.1])
    found = prior + np.linalg.solve(gram, design.T @ (weights * (y - design @ prior)))
    slope = max(float(found[1]), 0.1)
    return float(found[0]) * reference, slope * reference / about


def _weights(signals: Floats, about: float) -> Floats:
    distance = np.log(np.maximum(signals, 1e-6 * about) / about) / _NEAR
    return np.asarray(np.exp(-0.5 * distance**2))
