"""What fine-tuning tells about itself."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pruneaug_cli.core import BlockMask
from pruneaug_cli.training.schedule import Phase


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: from 1, counted through both phases.
        phase: which phase it belonged to.
        loss: mean over its batches, without the penalty.
        penalty: mean of the group penalty over its batches; 0.0 in retraining.
        metric: of the model after it; ``None`` when it was not evaluated.
        lr: learning rate of its last batch.
        sparsity: share of the planned layers' blocks that vanished: smaller than 1% of the RMS
            block of their layer.
        seconds: training and evaluation together.
    """

    epoch: int
    phase: Phase
    loss: float
    penalty: float
    metric: float | None
    lr: float
    sparsity: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneResult:
    """The outcome; the weights themselves are in the model.

    Attributes:
        masks: of the weights in the model. After a penalty phase they are chosen anew.
        history: every epoch.
        start_metric: right after pruning, before retraining; ``None`` without ``evaluate``.
        best_metric: of the weights in the model; ``None`` without ``evaluate``.
        best_epoch: the epoch they come from; 0: training never improved on the start.
        seconds: all in all, earlier sessions included.
    """

    masks: Mapping[str, BlockMask]
    history: tuple[EpochRecord, ...]
    start_metric: float | None
    best_metric: float | None
    best_epoch: int
    seconds: float
