r"""How far the outputs of a changed model are from those it had before.

A metric over N samples moves by some :math:`\sqrt{m/N}` with chance alone, where a part m of the
samples is near a decision: half a point for 2000 images. Outputs move by what pruning does to them,
sample by sample the same, so a few batches rank plans that the metric cannot tell apart.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pruneaug_cli.evaluation.batches import Args, Device, in_evaluation_mode, on_device

_LARGEST = 2**22
"""Numbers kept of the dense model's outputs, at most; of larger ones every k-th row."""


class Divergence:
    r"""Relative squared error of outputs against those of the dense model.

    .. math:: \frac{\sum_i \lVert y'_i - y_i \rVert^2}{\sum_i \lVert y_i - \bar y \rVert^2}

    over the rows of all outputs (everything but the last axis counts rows). 0 for the dense model;
    1 for one that says the same whatever its input.

    Args:
        model: the dense model.
        batches: positional inputs of the model.
        device: where the model is.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Args], device: Device = "cpu") -> None:
        self._batches, self._device, self._step = tuple(batches), device, 1
        outputs = list(self._outputs(model))
        numbers = sum(rows.numel() for rows in outputs)
        self._step = max(-(-numbers // _LARGEST), 1)
        self._dense = [rows[:: self._step].clone() for rows in outputs]
        self._spread = sum(
            float((rows - rows.mean(dim=0)).square().sum(dtype=torch.float64))
            for rows in self._dense
        )

    def __call__(self, model: nn.Module) -> float | None:
        """That of ``model``; None where outputs are not finite, or never differed."""
        if not self._spread > 0.0:
            return None
        error = 0.0
        for before, now in zip(self._dense, self._outputs(model), strict=True):
            error += float((now[:: self._step] - before).square().sum(dtype=torch.float64))
        return error / self._spread if math.isfinite(error) else None

    def _outputs(self, model: nn.Module) -> Iterator[Tensor]:
        """Every output of every batch as rows, shape (rows, columns)."""
        with in_evaluation_mode(model), torch.inference_mode():
            for batch in self._batches:
                for output in _tensors(model(*on_device(batch, self._device))):
                    yield output.reshape(-1, output.shape[-1] if output.dim() else 1).float().cpu()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for part in output:
            yield from _tensors(part)
