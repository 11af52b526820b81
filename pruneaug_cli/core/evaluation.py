"""What one evaluation of a plan found."""

from dataclasses import dataclass

from pruneaug_cli.core.partial import Partial


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metric of a plan, and what else was seen on the way.

    Attributes:
        metric: in the task's unit; an estimate where the evaluation ended early.
        divergence: how far the model's outputs are from the dense model's, relative, from 0; None:
            not measured. It says less than the metric of what matters, and says it with less noise.
        partial: what was seen when the evaluation ended because the plan was hopeless; None: all.
    """

    metric: float
    divergence: float | None = None
    partial: Partial | None = None

    @classmethod
    def of(cls, found: float | Partial, divergence: float | None = None) -> "Evaluation":
        """With what an evaluation of the metric returned."""
        if isinstance(found, Partial):
            return cls(found.metric, divergence, found)
        return cls(float(found), divergence)
