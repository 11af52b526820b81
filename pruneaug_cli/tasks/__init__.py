"""Where a model, its data and its metric come from: the task contract, its loader, checkpoints."""

from pruneaug_cli.tasks.checkpoint import (
    builtin_checkpoint,
    checkpoint_metadata,
    load_checkpoint,
    save_checkpoint,
)
from pruneaug_cli.tasks.task import Task, load_task

__all__ = [
    "Task",
    "builtin_checkpoint",
    "checkpoint_metadata",
    "load_checkpoint",
    "load_task",
    "save_checkpoint",
]
