"""One region as an ONNX node with its function, and as a model of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pruneaug_cli import __version__
from pruneaug_cli.export.lowering import MASKS, VALUES, lower
from pruneaug_cli.export.schema import (
    DOMAIN,
    DOMAIN_VERSION,
    IR_VERSION,
    ONNX_OPSET,
    region_op,
)
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.program import Planes, RegionProgram, Rows, ValueShape


@dataclass(frozen=True, slots=True, eq=False)
class RegionParts:
    """What one region adds to a model: a node, its two initializers, its function."""

    node: onnx.NodeProto
    initializers: tuple[onnx.TensorProto, onnx.TensorProto]
    function: onnx.FunctionProto


def region_parts(
    program: RegionProgram, index: int, inputs: Sequence[str], outputs: Sequence[str]
) -> RegionParts:
    """Encode ``program`` as region ``index`` between the named tensors of a graph.

    Raises:
        ValueError: the program is inconsistent, or ``index`` is past the last op type.
    """
    value_shapes(program)
    name, encoded = region_op(index), encode(program)
    values, masks = f"{name}.{VALUES}", f"{name}.{MASKS}"
    node = helper.make_node(
        name,
        [values, masks, *inputs],
        list(outputs),
        name=name,
        domain=DOMAIN,
        program=list(encoded.program),
        layers=[weight.name for weight in program.weights],
    )
    initializers = (
        numpy_helper.from_array(np.ascontiguousarray(encoded.values), values),
        numpy_helper.from_array(np.ascontiguousarray(encoded.masks), masks),
    )
    return RegionParts(node, initializers, lower(program, encoded, name))


def region_model(program: RegionProgram, *, batch: int = 1) -> onnx.ModelProto:
    """A model that is this one region: for timing a layer, and for tests.

    Inputs ``x0, x1, ..`` and outputs ``y0, y1, ..`` are float32 of shape (batch, C, H, W) for
    planes and (batch, F) for rows.

    Raises:
        ValueError: the program is inconsistent.
    """
    shapes = value_shapes(program)
    inputs = [f"x{index}" for index in range(len(program.inputs))]
    outputs = [f"y{index}" for index in range(len(program.outputs))]
    parts = region_parts(program, 0, inputs, outputs)
    results = [shapes[number] for number in program.outputs]
    graph = helper.make_graph(
        [parts.node],
        "region",
        [_tensor(name, shape, batch) for name, shape in zip(inputs, program.inputs, strict=True)],
        [_tensor(name, shape, batch) for name, shape in zip(outputs, results, strict=True)],
        list(parts.initializers),
    )
    return helper.make_model(
        graph,
        ir_version=IR_VERSION,
        producer_name="pruneaug",
        producer_version=__version__,
        opset_imports=opset_imports(),
        functions=[parts.function],
    )


def opset_imports() -> list[onnx.OperatorSetIdProto]:
    """The op sets a file with regions imports."""
    return [helper.make_opsetid("", ONNX_OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]


def _tensor(name: str, shape: ValueShape, batch: int) -> onnx.ValueInfoProto:
    sizes = [batch, *sample_shape(shape)]
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)


def sample_shape(shape: ValueShape) -> tuple[int, ...]:
    """Sizes of one sample of a value: (C, H, W) or (F,)."""
    match shape:
        case Planes(channels, height, width):
            return (channels, height, width)
        case Rows(features):
            return (features,)
        case _:
            assert_never(shape)
