"""Fine-tuning under block masks: group penalty, hard prune, masked retraining, distillation."""

from pruneaug_cli.training.finetune import finetune
from pruneaug_cli.training.optimizers import OPTIMIZERS
from pruneaug_cli.training.penalty import ReweightedGroupPenalty
from pruneaug_cli.training.result import EpochRecord, FinetuneResult
from pruneaug_cli.training.settings import FinetuneSettings

__all__ = [
    "OPTIMIZERS",
    "EpochRecord",
    "FinetuneResult",
    "FinetuneSettings",
    "ReweightedGroupPenalty",
    "finetune",
]
