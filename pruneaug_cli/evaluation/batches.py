"""Running a model on batches without leaving a trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Args = tuple[Any, ...]
"""Positional inputs of a model."""
Device = torch.device | str


def on_device(batch: Args, device: Device) -> Args:
    """Move the tensors of a batch; anything else passes through."""
    return tuple(part.to(device) if isinstance(part, Tensor) else part for part in batch)


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
