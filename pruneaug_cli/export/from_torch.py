"""A torch model as an ONNX graph: ``torch.onnx.export``, quiet, repeatable, with a dynamic batch.

Batch normalisation is folded into the convolutions before it; weights keep their names where
torch lets them. Stack traces, paths and other traces of this machine are removed.
"""

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import nn

from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.export.ports import sizes
from pruneaug_cli.export.schema import IR_VERSION, ONNX_OPSET

_TALKATIVE = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


@dataclass(frozen=True, slots=True, eq=False)
class TracedModel:
    """An ONNX model in memory, and whether the first size of its inputs is free."""

    model: ir.Model
    dynamic_batch: bool


def trace_to_onnx(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
) -> TracedModel:
    """Export ``model`` in evaluation mode; the model is left as it was.

    The first size of every tensor input is dynamic if all inputs share it and the model can be
    exported that way; else every size is that of the example.

    Raises:
        UnsupportedError: torch cannot export the model; the message has torch's own reason.
    """
    inputs = tuple(args), dict(kwargs or {})
    with _evaluating(model), _quiet():
        if _share_batch(inputs):
            dynamic = _export_any_batch(model, *inputs)
            if dynamic is not None:
                return TracedModel(dynamic, dynamic_batch=True)
        try:
            return TracedModel(_export(model, *inputs), dynamic_batch=False)
        except torch.onnx.OnnxExporterError as error:
            raise UnsupportedError(
                f"torch cannot export {type(model).__name__} to ONNX: {_first_cause(error)}",
                hint="try it alone: torch.onnx.export(model, example_inputs, dynamo=True)",
            ) from error


def _export_any_batch(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ir.Model | None:
    """The model for every batch size, or None when torch can make it only for the example's."""
    # a batch of one would be taken for a constant of the model
    args, kwargs = _map_tensors(_two_samples, (args, kwargs))
    bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    batch = torch.export.Dim("batch")
    shapes = _map_tensors(lambda _: {0: batch}, dict(bound), other=lambda _: None)
    try:
        exported = _export(model, args, kwargs, shapes)
    except torch.onnx.OnnxExporterError:
        return None
    firsts = [(sizes(value) or (None,))[0] for value in exported.graph.inputs]
    return exported if all(isinstance(first, str) for first in firsts) else None


def _export(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any = None
) -> ir.Model:
    program = torch.onnx.export(
        model,
        args,
        kwargs=kwargs,
        dynamo=True,
        optimize=True,
        opset_version=ONNX_OPSET,
        dynamic_shapes=shapes,
        verbose=False,
    )
    if program is None:
        raise TypeError("torch.onnx.export returned no program")
    return _tidy(program.model)


def _tidy(model: ir.Model) -> ir.Model:
    """Constants as initializers, nothing that does nothing, nothing of this machine."""
    _bypass_reshapes(model.graph)
    ir.passes.Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.ClearMetadataAndDocStringPass(),
    )(model)
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.ir_version = IR_VERSION
    return model


def _bypass_reshapes(graph: ir.Graph) -> None:
    """Take out every reshape to the shape it was given."""
    for node in graph:
        source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type != "Reshape" or source is None or result.is_graph_output():
            continue
        if sizes(source) is not None and sizes(source) == sizes(result):
            result.replace_all_uses_with(source)


def _share_batch(inputs: object) -> bool:
    firsts: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        firsts.append(tensor.shape[0] if tensor.dim() else -1)
        return tensor

    _map_tensors(note, inputs)
    return len(set(firsts)) == 1 and firsts[0] > 0


def _two_samples(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor, tensor]) if tensor.shape[0] == 1 else tensor


def _map_tensors(
    change: Callable[[torch.Tensor], object],
    tree: Any,
    *,
    other: Callable[[object], object] = lambda leaf: leaf,
) -> Any:
    """Rebuild nested tuples, lists and dicts with every tensor changed."""
    if isinstance(tree, torch.Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: _map_tensors(change, leaf, other=other) for key, leaf in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(_map_tensors(change, leaf, other=other) for leaf in tree)
    return other(tree)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings and log lines to itself; failures are exceptions."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_cause(error: BaseException) -> str:
    """The first line of what started a chain of exceptions."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
