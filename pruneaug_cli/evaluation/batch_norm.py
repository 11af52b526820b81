"""Batch-norm statistics of a model whose weights have changed."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pruneaug_cli.evaluation.batches import Args, Device, in_evaluation_mode, on_device

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


def batch_norms(model: nn.Module) -> list[BatchNorm]:
    """Every batch-norm layer that keeps running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, BatchNorm) and module.running_mean is not None
    ]


def reestimate_batch_norm(model: nn.Module, batches: Iterable[Args], device: Device) -> None:
    """Replace running means and variances by the plain average over the batches.

    Only batch-norm layers run in training mode: dropout stays off. Modes and momentum are
    restored. A model without such layers is not run at all; without a batch nothing changes.

    Args:
        model: its running statistics are overwritten in place.
        batches: positional inputs of the model.
        device: where the model is.

    References:
        Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022, section 5: statistics
        corrected on calibration data after one-shot pruning.
    """
    norms = batch_norms(model)
    if not norms:
        return
    with in_evaluation_mode(model), _averaging(norms), torch.no_grad():
        for number, batch in enumerate(batches):
            if number == 0:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.training = True
            model(*on_device(batch, device))


@contextmanager
def _averaging(norms: list[BatchNorm]) -> Iterator[None]:
    """Momentum None is torch's cumulative average."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
