"""Where tensors lie: moving batches to a device, and the memory order of kernels."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor of a batch (tensor, tuple, list, mapping, nested) to a device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        moved = [to_device(value, device) for value in batch]
        return moved if isinstance(batch, list) else tuple(moved)
    return batch


@torch.no_grad()
def order_kernels(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out the weights of all Conv2d modules in this order; activations follow them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=memory_format)
            module.weight.grad = None


@contextmanager
def channels_last_kernels(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Hold the kernels in channels-last order inside the block, in the usual one after it."""
    if enabled:
        order_kernels(model, torch.channels_last)
    try:
        yield
    finally:
        if enabled:
            order_kernels(model, torch.contiguous_format)
