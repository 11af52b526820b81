"""Evidence gathered from calibration data, one pass over the batches for a group of layers.

The hooks sit on the chosen layers only and remove themselves. Inputs are taken apart in pieces of
bounded size, and their products summed in float64; K² numbers per layer are all that stays.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pruneaug_cli.criteria import LayerEvidence
from pruneaug_cli.errors import RunError, TaskError
from pruneaug_cli.evaluation.batches import Args, Device, in_evaluation_mode, run_calibration
from pruneaug_cli.layers import input_columns, module_of, observe_inputs, weight_matrix
from pruneaug_cli.progress import Progress, Step, silent

GROUP_BYTES = 2**30
_PIECE_BYTES = 64 * 2**20
# rows are drawn from so many times as many positions, so that they come from many samples
_SPREAD = 4
_STAGE = "collecting evidence"
_GRADIENTS = "collecting gradients"

Single = npt.NDArray[np.float32]


def groups_of_layers(
    model: nn.Module, layers: Sequence[str], most_bytes: int = GROUP_BYTES
) -> Iterator[list[str]]:
    """Part layers into groups whose running sums (8 x K² bytes each) fit: one pass for each.

    Args:
        model: holds the layers.
        layers: their names; the order is kept.
        most_bytes: of one group; a layer that is larger is a group of its own.
    """
    group: list[str] = []
    held = 0
    for name in layers:
        needed = 8 * weight_matrix(module_of(model, name)).shape[1] ** 2
        if group and held + needed > most_bytes:
            yield group
            group, held = [], 0
        group.append(name)
        held += needed
    if group:
        yield group


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
        TaskError: the model cannot run a batch; weights or inputs of a layer are not finite.
    """
    _require_finite_weights(model, layers)
    sums = {name: _MomentSum(positions) for name in layers}

    def observe(name: str, x: Tensor) -> None:
        sums[name].add(module_of(model, name), x)

    with in_evaluation_mode(model), torch.no_grad(), observe_inputs(model, layers, observe):
        for number, batch in enumerate(batches, 1):
            run_calibration(model, batch, device)
            progress(Step(_STAGE, number, 0))
    missing = [name for name in layers if sums[name].samples == 0]
    if missing:
        raise RunError(
            f"no calibration input reached layer {missing[0]!r}",
            hint="calibration_batches() must give at least one batch that runs the whole model",
        )
    return {name: _finite(name, sums.pop(name).evidence()) for name in layers}  # one sum less each


def _require_finite_weights(model: nn.Module, layers: Sequence[str]) -> None:
    for name in layers:
        if not module_of(model, name).weight.isfinite().all():
            raise TaskError(
                f"the weights of layer {name!r} are not finite; expected finite numbers",
                hint="look for NaN in the checkpoint, and in what build_model() makes",
            )


def _finite(name: str, evidence: LayerEvidence) -> LayerEvidence:
    if not np.isfinite(evidence.second_moment).all():
        raise TaskError(
            f"the input of layer {name!r} is not finite for some calibration batch; "
            "expected finite numbers",
            hint="look for NaN in what calibration_batches() gives, and in the weights",
        )
    return evidence


class _MomentSum:
    """Sum of xᵀx over the rows seen so far."""

    def __init__(self, positions: int) -> None:
        self._positions = positions
        self._random = torch.Generator().manual_seed(0)
        self._sum: Tensor | None = None
        self.samples = 0

    def add(self, module: Any, x: Tensor) -> None:
        if x.numel() == 0:  # as an expert that no token was sent to
            return
        per_sample, width = input_columns(module, x[:1]).shape
        x = x[self._choose(len(x), -(-_SPREAD * self._positions // per_sample), x.device)]
        share = self._positions / (per_sample * len(x))
        for piece in torch.split(x, max(1, _PIECE_BYTES // (per_sample * width * 4))):
            columns = input_columns(module, piece).float()
            columns = columns[self._choose(len(columns), round(share * len(columns)), x.device)]
            if self._sum is None:
                self._sum = torch.zeros((width, width), dtype=torch.float64, device=x.device)
            self._sum += columns.T @ columns
            self.samples += len(columns)

    def _choose(self, count: int, wanted: int, device: torch.device) -> Tensor:
        """At least one and at most ``wanted`` of ``count`` places, at random, rising."""
        chosen = torch.randperm(count, generator=self._random)[: max(1, wanted)]
        return chosen.sort().values.to(device)

    def evidence(self) -> LayerEvidence:
        if self._sum is None:
            raise ValueError("nothing was observed")
        moment = self._sum.div_(self.samples).float().cpu().numpy()
        return LayerEvidence(moment, self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """What a loss says about one layer; see :class:`~pruneaug_cli.criteria.LayerEvidence`.

    Attributes:
        weight: mean squared gradient by each weight, shape (M, K).
        curvature: G at the outputs, shape (M, M).
    """

    weight: Single
    curvature: Single


def collect_gradients(
    model: nn.Module,
    layers: Sequence[str],
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    *,
    progress: Progress = silent,
) -> dict[str, Gradients]:
    """Squared gradients of the loss by every weight, and curvature at every layer's outputs.

    Args:
        model: stays as it is (no ``.grad`` is set); runs in evaluation mode.
        layers: names of the prunable layers.
        batches: training batches, in the form ``loss`` takes.
        loss: the loss of a batch, a scalar tensor: the mean over its samples, which are the first
            dimension of every layer's output.
        progress: told of every batch.

    Raises:
        RunError: there was no batch.
        TaskError: the gradients of a layer are not finite.
    """
    modules = {name: module_of(model, name) for name in layers}
    weights = [module.weight for module in modules.values()]
    squares = [torch.zeros_like(weight) for weight in weights]
    curvatures = {
        name: torch.zeros((len(module.weight),) * 2, device=module.weight.device)
        for name, module in modules.items()
    }
    count = 0

    def observe(name: str, gradient: Tensor) -> None:
        _add_curvature(curvatures[name], gradient)

    with (
        in_evaluation_mode(model), torch.enable_grad(), _requiring_gradients(weights),
        _observing_output_gradients(modules, observe),
    ):  # fmt: skip
        for count, batch in enumerate(batches, 1):
            gradients = torch.autograd.grad(loss(model, batch), weights, allow_unused=True)
            for total, gradient in zip(squares, gradients, strict=True):
                if gradient is not None:
                    total.addcmul_(gradient, gradient)
            progress(Step(_GRADIENTS, count, 0))
    if count == 0:
        raise RunError("no training batch to take gradients from")
    return {
        name: _finite_gradients(
            name,
            (square / count).reshape(weight_matrix(modules[name]).shape).cpu().numpy(),
            (curvatures.pop(name) / count).cpu().numpy(),
        )
        for name, square in zip(layers, squares, strict=True)
    }


def _finite_gradients(name: str, weight: Single, curvature: Single) -> Gradients:
    if not (np.isfinite(weight).all() and np.isfinite(curvature).all()):
        raise TaskError(
            f"the gradient of the loss by layer {name!r} is not finite for some batch of "
            "train_batches(0); expected finite numbers",
            hint="look for NaN in what train_batches() and loss() give, and in the weights",
        )
    return Gradients(weight, curvature)


def _add_curvature(total: Tensor, gradient: Tensor) -> None:
    """Add half the mean over the N samples of Σ g gᵀ over positions; (N, …, M) to (M, M)."""
    rows = gradient.reshape(-1, len(total)).float()
    # the loss is a mean: a sample's own gradient is N times what arrives here
    total.addmm_(rows.T, rows, alpha=0.5 * len(gradient))


@contextmanager
def _observing_output_gradients(
    modules: Mapping[str, nn.Module], observe: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Call ``observe(name, gradient)`` for every use of a layer, on the way back of the loss.

    The gradient is by the layer's outputs, channels last.
    """

    def watch(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def after(module: nn.Module, _: Any, output: Tensor) -> None:
            last = -1 if isinstance(module, nn.Linear) else 1
            if output.requires_grad:
                output.register_hook(  # type: ignore[no-untyped-call]  # torch has no type for it
                    lambda gradient: observe(name, gradient.detach().movedim(last, -1))
                )

        return after

    with ExitStack() as hooks:
        for name, module in modules.items():
            handle = module.register_forward_hook(watch(name))
            hooks.callback(handle.remove)
        yield


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
