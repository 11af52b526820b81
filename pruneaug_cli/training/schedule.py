"""The learning rate over a phase, and how many epochs fit into a budget."""

import math
from dataclasses import dataclass
from typing import Literal

Phase = Literal["penalty", "retraining"]


def lr_factor(progress: float, warmup: float) -> float:
    """Learning rate over its highest value: a straight rise, then half a cosine down to zero.

    Args:
        progress: how much of the phase is over, in [0, 1].
        warmup: the fraction of the phase that rises.

    Example:
        >>> [round(lr_factor(p, warmup=0.2), 3) for p in (0.1, 0.2, 0.6, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))


def milestone(progress: float, milestones: int) -> int:
    """Which of ``milestones`` equal parts of a phase ``progress`` is in, from 0.

    Example:
        >>> [milestone(p, 4) for p in (0.0, 0.24, 0.25, 0.99, 1.0)]
        [0, 0, 1, 3, 3]
    """
    return min(int(progress * milestones), milestones - 1)


@dataclass(frozen=True, slots=True)
class Timetable:
    """How many epochs each phase has, and the seconds they may take together."""

    penalty: int
    retraining: int
    budget_s: float | None = None

    def epochs_left(self, phase: Phase, done: int, *, spent_s: float, epoch_s: float | None) -> int:
        """Epochs still to run in ``phase`` after ``done`` of it.

        Under a budget no more than fit into it, the phases cut in proportion, but at least one
        epoch of retraining. The schedule of the phase is then spread over what is left of it:
        each epoch takes an equal share, so the learning rate still comes down to zero.

        Args:
            phase: the phase to look at.
            done: its epochs so far.
            spent_s: seconds so far.
            epoch_s: what an epoch takes; ``None`` when none was run yet.
        """
        if phase == "penalty":
            wanted = self.penalty - done
            total = wanted + self.retraining
            fits = self._fitting(total, spent_s, epoch_s)
            return wanted if fits == total else fits * wanted // total
        wanted = self.retraining - done
        fits = self._fitting(wanted, spent_s, epoch_s)
        return fits if done else max(fits, min(wanted, 1))

    def _fitting(self, wanted: int, spent_s: float, epoch_s: float | None) -> int:
        if self.budget_s is None or epoch_s is None:
            return wanted
        room_s = self.budget_s - spent_s
        if room_s >= wanted * epoch_s:
            return wanted
        return max(0, int(room_s / epoch_s))
