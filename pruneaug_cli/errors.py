"""Every error pruneaug raises on purpose, and the exit code each one becomes.

PruneaugError              1   base class; never raised itself
├── UsageError             2   the options given contradict each other
├── InputError             3   a file the user named cannot be used
│   ├── TaskError              the task file cannot be loaded, or lacks a function
│   │   └── MetricError        the metric of a model is not a finite number
│   ├── CheckpointError        the weights cannot be read, or belong to another architecture
│   ├── ProfileError           a platform profile is malformed or of another version
│   ├── PlanError              a plan does not fit the model it is applied to
│   ├── RecipeError            a recipe has unknown keys or values out of range
│   ├── ModelFileError         an ONNX file is damaged, or is not what it says
│   └── RunError               a run directory lacks what this step needs
│       └── DivergedError      training came to numbers that are not finite
├── UnsupportedError       4   a sensible request that this build cannot serve
├── ToolchainError         5   the C compiler is missing, or rejected a kernel
├── BudgetError            6   no plan meets the target
└── VerificationError      7   an exported file does not compute what the model computes

``ValueError`` and ``TypeError`` stay what they are: programming errors inside the library.
"""

from typing import Any, ClassVar


class PruneaugError(Exception):
    """A failure the user can act on: what happened, plus an optional next step."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PruneaugError):
    """The options given contradict each other, or one of them is malformed."""

    exit_code = 2


class InputError(PruneaugError):
    """A file the user named cannot be used."""

    exit_code = 3


class TaskError(InputError):
    """The task file cannot be loaded, or lacks a function that is needed now."""


class MetricError(TaskError):
    """The metric of a model is not a finite number."""


class CheckpointError(InputError):
    """The weights cannot be read, or belong to another architecture."""


class ProfileError(InputError):
    """A platform profile is malformed, or of another version."""


class PlanError(InputError):
    """A plan is malformed, or does not fit the model it is applied to."""


class RecipeError(InputError):
    """A recipe has unknown keys, or values out of range."""


class ModelFileError(InputError):
    """An ONNX file is damaged, or is not what it says."""


class RunError(InputError):
    """A run directory lacks what this step needs."""


class DivergedError(RunError):
    """Training came to a loss or gradient that is not a finite number."""


class UnsupportedError(PruneaugError):
    """A sensible request that this build, machine or platform cannot serve."""

    exit_code = 4


class ToolchainError(PruneaugError):
    """The C compiler is missing, or rejected a kernel."""

    exit_code = 5


class BudgetError(PruneaugError):
    """No plan meets the latency target or the accuracy floor.

    Attributes:
        found: the use case's result where there is one all the same, to be shown before the
            refusal; else None.
    """

    exit_code = 6

    def __init__(self, message: str, *, hint: str | None = None, found: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.found = found


class VerificationError(PruneaugError):
    """An exported file does not compute what the model computes."""

    exit_code = 7
