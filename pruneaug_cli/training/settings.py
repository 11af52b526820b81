"""How to fine-tune: plain numbers and names, checked once."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from pruneaug_cli.errors import RecipeError


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """Settings of :func:`~pruneaug_cli.training.finetune`; the recipe's section ``finetune``.

    Attributes:
        epochs: epochs of masked retraining; 0: the masks are applied, nothing is trained.
        penalty_epochs: epochs under the group penalty before the hard prune; 0: none, the masks
            and weights given are the start of the retraining.
        strength: of the group penalty (``ReweightedGroupPenalty``).
        reweights: how often the penalty's coefficients are computed, at equal distances over the
            penalty phase, the first time at its start.
        epsilon: keeps the coefficients of vanishing blocks finite.
        optimizer: name in ``OPTIMIZERS``; ignored when the task brings its own.
        lr: highest learning rate.
        momentum: of SGD; the first beta of AdamW.
        nesterov: Nesterov's form of momentum (SGD).
        weight_decay: of parameters with two or more dimensions; biases and norms have none.
        warmup: fraction of a phase over which the learning rate rises.
        clip_norm: largest norm of the whole gradient; ``None``: not clipped.
        distillation: share of the distillation loss, in [0, 1], when a teacher is given.
        temperature: of the distillation.
        label_smoothing: share of the uniform distribution in the target, in [0, 1).
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        budget_s: seconds to spend; the epochs are cut to what fits, the epoch in flight is
            finished, and at least one epoch is retrained. A run under a budget depends on the
            speed of the machine; without one it repeats exactly.
        channels_last: compute in channels-last order: the same numbers up to rounding, and on a
            CPU 1.4 to 1.7 times as fast for the convolutional networks measured.
        seed: of everything drawn here; each epoch is seeded by (seed, epoch).
    """

    epochs: int = 8
    penalty_epochs: int = 0
    strength: float = 1e-3
    reweights: int = 4
    epsilon: float = 1e-3
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip_norm: float | None = 5.0
    distillation: float = 0.9
    temperature: float = 4.0
    label_smoothing: float = 0.0
    evaluate_every: int = 1
    budget_s: float | None = None
    channels_last: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for expected, holds, names in _RULES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not (math.isfinite(value) and holds(value)):
                    raise RecipeError(f"finetune.{name}: expected {expected}, got {value!r}")

    def to_json(self) -> dict[str, object]:
        """Every field by name."""
        return dataclasses.asdict(self)


_RULES: tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...] = (
    (
        "a number of at least 0",
        lambda value: value >= 0,
        ("epochs", "penalty_epochs", "strength", "weight_decay", "seed"),
    ),
    ("a number of at least 1", lambda value: value >= 1, ("reweights", "evaluate_every")),
    (
        "a number above 0",
        lambda value: value > 0,
        ("epsilon", "lr", "clip_norm", "temperature", "budget_s"),
    ),
    (
        "a number of at least 0 and below 1",
        lambda value: 0 <= value < 1,
        ("momentum", "warmup", "label_smoothing"),
    ),
    ("a number from 0 to 1", lambda value: 0 <= value <= 1, ("distillation",)),
)
