"""Running a model on batches without leaving a trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pruneaug_cli.errors import TaskError
from pruneaug_cli.tasks.failure import PASSED_ON, cause

Args = tuple[Any, ...]
"""Positional inputs of a model."""
Device = torch.device | str


def on_device(batch: Args, device: Device) -> Args:
    """Move the tensors of a batch; anything else passes through."""
    return tuple(part.to(device) if isinstance(part, Tensor) else part for part in batch)


def run_calibration(model: nn.Module, batch: Args, device: Device) -> Any:
    """Outputs of a model for a calibration batch.

    Raises:
        TaskError: the model cannot run it.
    """
    try:
        return model(*on_device(batch, device))
    except PASSED_ON:
        raise
    except Exception as error:
        given = ", ".join(
            str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__
            for part in batch
        )
        raise TaskError(
            f"calibration_batches() gave inputs {given}, which the model cannot run: "
            f"{cause(error)}",
            hint="they must be inputs like those of example_inputs(), any number at a time",
        ) from error


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode; each gets its own mode back, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
