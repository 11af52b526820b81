"""The metric of a plan as far as it was looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Partial:
    """What is known of a plan whose evaluation ended early, because it was hopeless.

    Attributes:
        metric: estimate from the samples seen.
        samples: how many were seen.
        of: how many there are.
        max_drop: the plan loses more than this, by all that can be said.
    """

    metric: float
    samples: int
    of: int
    max_drop: float
