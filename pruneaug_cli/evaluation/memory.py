"""Memory of evaluations: where freed tensors go, and the order that convolutions like."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of glibc's mallopt
_KEPT_BYTES = 2**30
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc takes no larger one


def keep_freed_memory() -> bool:
    """Have this process keep up to a GiB of freed memory for its next tensors.

    By default glibc gives memory back to the system as soon as an activation of some MiB is freed,
    and every layer of every batch pays for fresh, zeroed pages: 30% of an evaluation of ResNet-20
    in batches of 250. False where there is no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or another system
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    done = [
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES),
    ]
    return all(done)


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Hold the kernels of all Conv2d modules in channels-last order inside the block.

    Activations follow them. At the end every weight is the tensor it was before, which the block
    must not change.
    """
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    before = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for weight, data in zip(weights, before, strict=True):
            weight.data = data
