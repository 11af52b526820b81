"""A model with the weights of a plan, for as long as a ``with`` block lasts.

One trial costs two passes over the calibration inputs, for batch-norm statistics and for the
divergence of the outputs, and one evaluation; putting the weights in and taking them out again is
milliseconds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from pruneaug_cli.core import Evaluation, Partial, Plan
from pruneaug_cli.evaluation.batch_norm import BatchNormCorrection, batch_norms
from pruneaug_cli.evaluation.batches import Args, Device
from pruneaug_cli.evaluation.database import LayerDatabase
from pruneaug_cli.evaluation.divergence import Divergence
from pruneaug_cli.evaluation.memory import channels_last, keep_freed_memory
from pruneaug_cli.layers import module_of, set_matrix


@contextmanager
def stitch(
    model: nn.Module,
    database: LayerDatabase,
    plan: Plan,
    *,
    correction: BatchNormCorrection | None = None,
) -> Iterator[nn.Module]:
    """Put the plan's weights into the model; the dense ones come back at the end.

    Weights and batch-norm statistics are overwritten in place (no tensor is replaced) and
    restored bit for bit, also after an error. Layers the plan does not name stay dense.

    Args:
        model: the dense model whose weights the database was built from.
        database: weights of every option.
        plan: one choice per layer.
        correction: of batch-norm statistics; None: they stay as they are.

    Raises:
        PlanError: the database has no such option.
    """
    pruned = {name: choice for name, choice in plan.items() if not choice.is_dense}
    entries = {name: database.entry(name, choice) for name, choice in pruned.items()}
    with _restored(_touched(model, pruned)):
        for name, entry in entries.items():
            set_matrix(model, name, entry.weight)
        if pruned and correction is not None:
            with channels_last(model):
                correction.apply(model)
        yield model


class StitchedEvaluator:
    """Metric of a plan, one-shot: no training.

    Args:
        model: the dense model; it is as before after every call.
        database: weights of every option.
        evaluate: metric of a model, or as much of it as was needed.
        batches: inputs for the correction of batch-norm statistics and for the divergence.
        device: where the model is.
        source: what gave the batches, for messages.
    """

    def __init__(
        self,
        model: nn.Module,
        database: LayerDatabase,
        *,
        evaluate: Callable[[nn.Module], float | Partial],
        batches: Sequence[Args] = (),
        device: Device = "cpu",
        source: str = "calibration_batches()",
    ) -> None:
        keep_freed_memory()
        self.model, self.database = model, database
        self._batches, self._device = tuple(batches), device
        self._evaluate, self._source = evaluate, source

    @cached_property
    def correction(self) -> BatchNormCorrection:
        """Of batch-norm statistics, for :func:`stitch`; the dense model runs when first asked.

        Raises:
            TaskError: the batches have too few values for it.
        """
        with channels_last(self.model):
            return BatchNormCorrection(self.model, self._batches, self._device, source=self._source)

    @cached_property
    def divergence(self) -> Divergence:
        """Of outputs from the dense model's, which runs when this is first asked for."""
        with channels_last(self.model):
            return Divergence(self.model, self._batches, self._device)

    def __call__(self, plan: Plan) -> Evaluation:
        """Stitch, correct batch norm, evaluate, restore.

        Raises:
            PlanError: the database has no such option.
            TaskError: the batches have too few values to correct batch norm.
        """
        divergence = self.divergence  # made before the weights change
        with (
            stitch(self.model, self.database, plan, correction=self.correction) as model,
            channels_last(model),
        ):
            return Evaluation.of(self._evaluate(model), divergence(model))


def _touched(model: nn.Module, layers: Iterable[str]) -> list[Tensor]:
    """Every tensor that stitching overwrites: weights of the layers, batch-norm statistics."""
    weights = [module_of(model, name).weight for name in layers]
    statistics = [buffer for norm in batch_norms(model) for buffer in norm.buffers()]
    return [*weights, *statistics]


@contextmanager
def _restored(tensors: list[Tensor]) -> Iterator[None]:
    saved = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, saved, strict=True):
                tensor.copy_(value)
