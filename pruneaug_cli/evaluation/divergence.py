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

from pruneaug_cli.evaluation.batches import Args, Device, in_evaluation_mode, run_calibration

_LARGEST = 2**22
"""Numbers kept of one output over all batches, at most; of larger ones every k-th row."""


class Divergence:
    r"""Relative squared error of outputs against those of the dense model.

    .. math:: \frac{\sum_i \lVert y'_i - y_i \rVert^2}{\sum_i \lVert y_i - \bar y \rVert^2}

    over the rows of all outputs of all batches (everything but the last axis counts rows; the mean
    is that of the rows of one width). 0 for the dense model; 1 for one that always says the mean.

    Args:
        model: the dense model.
        batches: positional inputs of the model.
        device: where the model is.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Args], device: Device = "cpu") -> None:
        self._batches, self._device = tuple(batches), device
        self._dense = list(self._outputs(model))
        self._spread = _spread(self._dense)

    def __call__(self, model: nn.Module) -> float | None:
        """That of ``model``; None where outputs are not finite, or never differed."""
        if not self._spread > 0.0:
            return None
        error = 0.0
        for before, now in zip(self._dense, self._outputs(model), strict=True):
            error += float((now - before).square().sum(dtype=torch.float64))
        return error / self._spread if math.isfinite(error) else None

    def _outputs(self, model: nn.Module) -> Iterator[Tensor]:
        """Every output of every batch as rows, shape (rows, columns), large ones thinned out."""
        most = _LARGEST // max(len(self._batches), 1)
        # not inference mode: a tensor that the model keeps for later could not be trained with,
        # nor exported
        with in_evaluation_mode(model), torch.no_grad():
            for batch in self._batches:
                for output in _tensors(run_calibration(model, batch, self._device)):
                    rows = output.reshape(-1, output.shape[-1] if output.dim() else 1)
                    step = max(-(-rows.numel() // max(most, 1)), 1)
                    yield rows[::step].float().cpu().clone()


def _spread(outputs: Sequence[Tensor]) -> float:
    """Squared distance of all rows from the mean of those of their width, summed."""
    spread = 0.0
    for width in {rows.shape[1] for rows in outputs}:
        rows = torch.cat([rows for rows in outputs if rows.shape[1] == width]).double()
        spread += float((rows - rows.mean(dim=0)).square().sum())
    return spread


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
