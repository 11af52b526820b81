"""What a batch is trained for: the task's loss, smoothed labels, and the dense model's answers."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.training.memory import order_kernels
from pruneaug_cli.training.settings import FinetuneSettings

Loss = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a module: what went in, what came out."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@contextmanager
def record_calls(model: nn.Module) -> Iterator[list[Call]]:
    """Collect the calls of ``model`` itself inside the block; leaves no hook behind."""
    calls: list[Call] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append(Call(args, kwargs, output))

    handle = model.register_forward_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


class Objective:
    r"""The loss that is minimised, apart from the group penalty.

    .. math::
        (1 - w) \bigl[(1 - s)\, L + s \, \overline{-\log p_k}\bigr]
        + w \, T^2 \, \mathrm{KL}\bigl(p^{\text{teacher}}_T \,\Vert\, p_T\bigr)

    L is the task's loss; w the distillation's share, T its temperature (p_T is the softmax of
    logits / T); s the label smoothing, with the mean of -log p over the classes k, so that a
    cross-entropy L becomes exactly PyTorch's smoothed cross-entropy. Both are means over all
    positions and, should the task's loss call the model more than once, over its calls.

    The task's loss calls the model as it likes: the logits are overheard by a hook, and the
    teacher answers the very same inputs. The teacher is copied; the caller's is not touched.

    References:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
        arXiv:1503.02531, 2015. Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, teacher: nn.Module | None, settings: FinetuneSettings
    ) -> None:
        self._model = model
        self._loss = loss
        self._smoothing = settings.label_smoothing
        self._share = settings.distillation
        self._temperature = settings.temperature
        self._teacher: nn.Module | None = None
        if teacher is not None and self._share:
            self._teacher = _frozen_copy(teacher, model, settings)

    def __call__(self, batch: Any) -> Tensor:
        """The loss of one batch: a scalar that carries gradients."""
        if self._teacher is None and not self._smoothing:
            return self._loss(self._model, batch)
        with record_calls(self._model) as calls:
            loss = self._loss(self._model, batch)
        if not calls:
            raise UnsupportedError(
                "the task's loss never calls the model, so there are no logits to learn from",
                hint="call model(...) in loss(), or set finetune.distillation and "
                "finetune.label_smoothing to 0",
            )
        if self._smoothing:
            uniform = torch.stack([_uniform_cross_entropy(call) for call in calls]).mean()
            loss = (1.0 - self._smoothing) * loss + self._smoothing * uniform
        if self._teacher is None:
            return loss
        distance = torch.stack([self._distance(self._teacher, call) for call in calls]).mean()
        return (1.0 - self._share) * loss + self._share * distance

    def _distance(self, teacher: nn.Module, call: Call) -> Tensor:
        with torch.no_grad():
            answer = teacher(*call.args, **call.kwargs)
        ours = F.log_softmax(_class_rows(call.output) / self._temperature, dim=-1)
        theirs = F.log_softmax(_class_rows(answer) / self._temperature, dim=-1)
        distance = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        return self._temperature**2 * distance


def _frozen_copy(teacher: nn.Module, model: nn.Module, settings: FinetuneSettings) -> nn.Module:
    if teacher is model:
        raise ValueError("the teacher must be another module than the model that is trained")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    frozen = copy.deepcopy(teacher).to(device).eval().requires_grad_(requires_grad=False)
    if settings.channels_last:
        order_kernels(frozen, torch.channels_last)
    return frozen


def _uniform_cross_entropy(call: Call) -> Tensor:
    return -F.log_softmax(_class_rows(call.output), dim=-1).mean()


def _class_rows(output: Any) -> Tensor:
    """Logits as (positions, classes).

    The output is a tensor, the first of a tuple, or ``logits`` of a mapping. Classes are its last
    dimension for one to three dimensions, (…, classes), and the second for planes, (N, classes,
    H, W).
    """
    if isinstance(output, Mapping):
        output = output.get("logits")
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise UnsupportedError(
            f"expected logits from the model, got {type(output).__name__}", hint=_HINT
        )
    logits = output.movedim(1, -1) if output.dim() > 3 else output
    if logits.dim() == 0 or logits.shape[-1] < 2:
        raise UnsupportedError(
            f"expected logits of two or more classes, got shape {tuple(output.shape)}", hint=_HINT
        )
    return logits.reshape(-1, logits.shape[-1])


_HINT = "set finetune.distillation and finetune.label_smoothing to 0"
