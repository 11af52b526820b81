"""Batch-norm statistics of a model whose weights have changed.

Statistics of a few calibration batches are not those that training has averaged over all of its
data: to replace them costs accuracy even where no weight has changed. So they are moved instead,
by as much as the statistics of the same batches have moved since the model was dense
(:class:`BatchNormCorrection`); what the choice of batches does to both cancels out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pruneaug_cli.errors import TaskError
from pruneaug_cli.evaluation.batches import Args, Device, in_evaluation_mode, run_calibration

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


def batch_norms(model: nn.Module) -> list[BatchNorm]:
    """Every batch-norm layer that keeps running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, BatchNorm) and module.running_mean is not None
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Statistics:
    """Running mean and variance of one layer, each of shape (channels,)."""

    mean: Tensor
    variance: Tensor


class BatchNormCorrection:
    r"""Moves running statistics by what changed weights do to those of calibration batches.

    .. math:: s^2 = \frac{v' + \epsilon}{v + \epsilon}, \qquad
       \mu' = m' + s (\mu - m), \qquad
       \sigma'^2 + \epsilon = s^2 (\sigma^2 + \epsilon)

    with the dense model's running statistics \mu, \sigma^2, and m, v and m', v' the average
    statistics over the batches of the dense and of the changed model. Weights that have not
    changed leave all as it was; weights scaled by a factor leave the normalised outputs as they
    were, as batch norm itself does: without s in the mean, a channel that has lost nearly all of
    its weights would have the batches' error \mu - m divided by nearly nothing.

    Args:
        model: the dense model; as before afterwards.
        batches: positional inputs of the model; none: nothing is ever corrected.
        device: where the model is.
        source: what gave the batches, for the message.

    Raises:
        TaskError: a layer had but one value per channel in every batch.

    References:
        Owen, "Monte Carlo theory, methods and examples", 2013, section 8.9: the dense model's
        statistics serve as control variates.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Args],
        device: Device = "cpu",
        *,
        source: str = "calibration_batches()",
    ) -> None:
        self._batches, self._device = tuple(batches), device
        norms = batch_norms(model)
        before = [norm.state_dict() for norm in norms]
        before = [{name: value.clone() for name, value in state.items()} for state in before]
        self._trained = [_statistics(norm) for norm in norms]
        try:
            found = _reestimate(model, self._batches, device)
            self._dense = [_statistics(norm) for norm in norms]
        finally:
            for norm, state in zip(norms, before, strict=True):
                norm.load_state_dict(state)
        for name, module in model.named_modules():
            if isinstance(module, BatchNorm) and not found.get(module, True):
                raise TaskError(
                    f"{source}: batch norm {name!r} has one value per channel in each of "
                    f"{len(self._batches)} batches; expected two or more",
                    hint="let calibration_batches() give several samples at a time",
                )

    def apply(self, model: nn.Module) -> None:
        """Correct the statistics of ``model``, the dense one with other weights, in place."""
        found = _reestimate(model, self._batches, self._device)
        norms = batch_norms(model)
        for norm, trained, dense in zip(norms, self._trained, self._dense, strict=True):
            if found.get(norm):
                _move(norm, trained, dense)


def _statistics(norm: BatchNorm) -> _Statistics:
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101, PT018
    return _Statistics(norm.running_mean.clone(), norm.running_var.clone())


def _move(norm: BatchNorm, trained: _Statistics, dense: _Statistics) -> None:
    found = _statistics(norm)
    # of a channel that was constant, v = 0, all variance is new: the formula says so
    scale = (found.variance + norm.eps) / (dense.variance + norm.eps)
    root = scale.sqrt()
    mean = root * trained.mean + (found.mean - root * dense.mean)
    variance = ((trained.variance + norm.eps) * scale - norm.eps).clamp_min(0.0)
    norm.running_mean.copy_(mean)  # type: ignore[union-attr]
    norm.running_var.copy_(variance)  # type: ignore[union-attr]


def reestimate_batch_norm(model: nn.Module, batches: Iterable[Args], device: Device) -> None:
    """Replace running means and variances by the plain average over the batches.

    Only batch-norm layers run in training mode: dropout stays off. Modes and momentum are
    restored. A model without such layers is not run at all; without a batch nothing changes.
    An input of one value per channel has no variance and counts for nothing; a layer that is
    given no other keeps its statistics.

    Args:
        model: its running statistics are overwritten in place.
        batches: positional inputs of the model.
        device: where the model is.

    References:
        Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022, section 5: statistics
        re-estimated on calibration data after one-shot pruning.
    """
    _reestimate(model, batches, device)


def _reestimate(model: nn.Module, batches: Iterable[Args], device: Device) -> dict[BatchNorm, bool]:
    """Per layer that was run: whether it has statistics of the batches now."""
    found: dict[BatchNorm, bool] = {}

    def before(norm: BatchNorm, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x: Tensor = args[0] if args else kwargs["input"]
        begun = found.setdefault(norm, False)
        norm.training = x.numel() > norm.num_features  # torch refuses to train on less
        if norm.training and not begun:
            norm.reset_running_stats()
            found[norm] = True

    norms = batch_norms(model)
    if norms:
        with in_evaluation_mode(model), _averaging(norms, before), torch.no_grad():
            for batch in batches:
                run_calibration(model, batch, device)
    return found


@contextmanager
def _averaging(norms: list[BatchNorm], before: Callable[..., None]) -> Iterator[None]:
    """Momentum None is torch's cumulative average; ``before`` is called before every run."""
    momenta = [norm.momentum for norm in norms]
    with ExitStack() as hooks:
        try:
            for norm in norms:
                norm.momentum = None
                handle = norm.register_forward_pre_hook(before, with_kwargs=True)
                hooks.callback(handle.remove)
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
