"""Evidence gathered once from calibration data, and kept in a file.

The hooks sit on the chosen layers only and remove themselves. Inputs are taken apart in pieces of
bounded size, and their products summed in float64; K² numbers per layer are all that stays.

Evidence file: safetensors; ``LAYER/second_moment`` (K, K) float32, ``LAYER/samples`` and, when
there were gradients, ``LAYER/gradient`` (M, K) float32. The one metadata entry ``evidence`` is
``schema_version``, a space, and the key.

Schema history (``schema_version``):
    1: first version.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from pruneaug_cli.criteria import LayerEvidence
from pruneaug_cli.errors import RunError
from pruneaug_cli.evaluation.batches import Args, Device, in_evaluation_mode, on_device
from pruneaug_cli.files import write_bytes
from pruneaug_cli.layers import input_columns, module_of, observe_inputs, weight_matrix
from pruneaug_cli.progress import Progress, Step, silent

SCHEMA_VERSION = 1
_PIECE_BYTES = 64 * 2**20
# rows are drawn from so many times as many positions, so that they come from many samples
_SPREAD = 4
_STAGE = "collecting evidence"


def collect_evidence(
    model: nn.Module,
    layers: Sequence[str],
    batches: Iterable[Args],
    *,
    device: Device = "cpu",
    positions: int = 4096,
    progress: Progress = silent,
) -> dict[str, LayerEvidence]:
    r"""Second moments H = XᵀX / n of the inputs of every layer, over all batches.

    Args:
        model: stays as it is; runs in evaluation mode.
        layers: names of the prunable layers.
        batches: positional inputs of the model, one tuple per batch.
        device: where the model is.
        positions: at most this many rows of X (output positions of a convolution, tokens) are
            taken from one layer in one batch, the same random ones in every run. Neighbouring
            patches overlap, so most of them say the same: 4096 of 131072 are enough, and save
            nearly all of the time.
        progress: told of every batch.

    Returns:
        Evidence with float32 second moments, in the order of ``layers``.

    Raises:
        RunError: there was no batch, or a layer was never reached.
    """
    sums = {name: _MomentSum(positions) for name in layers}

    def observe(name: str, x: Tensor) -> None:
        sums[name].add(module_of(model, name), x)

    with in_evaluation_mode(model), torch.no_grad(), observe_inputs(model, layers, observe):
        for number, batch in enumerate(batches, 1):
            model(*on_device(batch, device))
            progress(Step(_STAGE, number, 0))
    missing = [name for name in layers if sums[name].samples == 0]
    if missing:
        raise RunError(
            f"no calibration input reached layer {missing[0]!r}",
            hint="calibration_batches() must give at least one batch that runs the whole model",
        )
    return {name: sums[name].evidence() for name in layers}


class _MomentSum:
    """Sum of xᵀx over the rows seen so far."""

    def __init__(self, positions: int) -> None:
        self._positions = positions
        self._random = torch.Generator().manual_seed(0)
        self._sum: Tensor | None = None
        self.samples = 0

    def add(self, module: Any, x: Tensor) -> None:
        per_sample, width = input_columns(module, x[:1]).shape
        x = x[self._choose(len(x), -(-_SPREAD * self._positions // per_sample), x.device)]
        share = self._positions / (per_sample * len(x))
        for piece in torch.split(x, max(1, _PIECE_BYTES // (per_sample * width * 4))):
            columns = input_columns(module, piece).float()
            columns = columns[self._choose(len(columns), round(share * len(columns)), x.device)]
            product = (columns.T @ columns).double()
            self._sum = product if self._sum is None else self._sum.add_(product)
            self.samples += len(columns)

    def _choose(self, count: int, wanted: int, device: torch.device) -> Tensor:
        """At least one and at most ``wanted`` of ``count`` places, at random, rising."""
        chosen = torch.randperm(count, generator=self._random)[: max(1, wanted)]
        return chosen.sort().values.to(device)

    def evidence(self) -> LayerEvidence:
        if self._sum is None:
            raise ValueError("nothing was observed")
        moment = (self._sum / self.samples).float().cpu().numpy()
        return LayerEvidence(moment, self.samples)


def collect_gradients(
    model: nn.Module,
    layers: Sequence[str],
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    *,
    progress: Progress = silent,
) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Mean over batches of the squared gradient of the loss by each weight, (M, K) per layer.

    Args:
        model: stays as it is (no ``.grad`` is set); runs in evaluation mode.
        layers: names of the prunable layers.
        batches: training batches, in the form ``loss`` takes.
        loss: the loss of a batch, a scalar tensor.
        progress: told of every batch.

    Raises:
        RunError: there was no batch.
    """
    weights = [module_of(model, name).weight for name in layers]
    sums = [torch.zeros_like(weight) for weight in weights]
    count = 0
    with in_evaluation_mode(model), torch.enable_grad(), _requiring_gradients(weights):
        for count, batch in enumerate(batches, 1):
            gradients = torch.autograd.grad(loss(model, batch), weights, allow_unused=True)
            for total, gradient in zip(sums, gradients, strict=True):
                if gradient is not None:
                    total.addcmul_(gradient, gradient)
            progress(Step("collecting gradients", count, 0))
    if count == 0:
        raise RunError("no training batch to take gradients from")
    return {
        name: (total / count).reshape(weight_matrix(module_of(model, name)).shape).cpu().numpy()
        for name, total in zip(layers, sums, strict=True)
    }


@contextmanager
def _requiring_gradients(weights: Sequence[Tensor]) -> Iterator[None]:
    """Let frozen weights have gradients for a while."""
    frozen = [weight for weight in weights if not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def with_gradients(
    evidence: Mapping[str, LayerEvidence],
    gradients: Mapping[str, np.ndarray[Any, np.dtype[np.float32]]],
) -> dict[str, LayerEvidence]:
    """Add gradients to the evidence of the same layers."""
    return {
        name: LayerEvidence(known.second_moment, known.samples, gradients[name])
        for name, known in evidence.items()
    }


def stored_evidence(
    path: Path, key: str, collect: Callable[[], Mapping[str, LayerEvidence]]
) -> dict[str, LayerEvidence]:
    """Read evidence from a file, or collect it and write the file.

    Args:
        path: the evidence file.
        key: digest of all that decides the evidence: weights, data, settings. A file with another
            key, or one that cannot be read, is replaced.
        collect: gathers the evidence.
    """
    found = _read(path, key) if path.exists() else None
    if found is None:
        found = dict(collect())
        write_bytes(path, _dump(found, key))
    return found


def _dump(evidence: Mapping[str, LayerEvidence], key: str) -> bytes:
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, known in evidence.items():
        arrays[f"{name}/second_moment"] = np.ascontiguousarray(known.second_moment, np.float32)
        arrays[f"{name}/samples"] = np.array([known.samples], dtype=np.int64)
        if known.gradient_second_moment is not None:
            gradient = np.ascontiguousarray(known.gradient_second_moment, np.float32)
            arrays[f"{name}/gradient"] = gradient
    return bytes(save(arrays, _metadata(key)))


def _metadata(key: str) -> dict[str, str]:
    # one entry: safetensors writes several in an order that changes from run to run
    return {"evidence": f"{SCHEMA_VERSION} {key}"}


def _read(path: Path, key: str) -> dict[str, LayerEvidence] | None:
    """The evidence in a file, or None when it is another's or damaged."""
    try:
        with safe_open(path, "numpy") as file:
            if file.metadata() != _metadata(key):
                return None
            names = sorted(file.keys())
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError):
        return None
    evidence = {}
    for layer, parts in itertools.groupby(names, key=lambda name: name.rpartition("/")[0]):
        known = {part.rpartition("/")[2]: arrays[part] for part in parts}
        evidence[layer] = LayerEvidence(
            known["second_moment"], int(known["samples"][0]), known.get("gradient")
        )
    return evidence
