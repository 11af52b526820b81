"""One region as an ONNX node with its function, and as a model of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from pruneaug_cli import __version__
from pruneaug_cli.export.lowering import MASKS, VALUES, lower
from pruneaug_cli.export.schema import DOMAIN, DOMAIN_VERSION, IR_VERSION, ONNX_OPSET, region_op
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.program import Planes, RegionProgram, Rows, ValueShape


@dataclass(frozen=True, slots=True, eq=False)
class RegionParts:
    """What one region adds to a graph: a node, its two initializers, its function."""

    node: ir.Node
    initializers: tuple[ir.Value, ir.Value]
    function: ir.Function


def region_parts(program: RegionProgram, index: int, inputs: Sequence[ir.Value]) -> RegionParts:
    """Encode ``program`` as region ``index`` that reads ``inputs``.

    Raises:
        ValueError: the program is inconsistent, or ``index`` is past the last op type.
    """
    value_shapes(program)
    name, encoded = region_op(index), encode(program)
    blobs = (
        _initializer(f"{name}.{VALUES}", encoded.values),
        _initializer(f"{name}.{MASKS}", encoded.masks),
    )
    node = ir.Node(
        DOMAIN,
        name,
        [*blobs, *inputs],
        [
            ir.AttrInt64s("program", encoded.program),
            ir.AttrStrings("layers", [weight.name for weight in program.weights]),
        ],
        num_outputs=len(program.outputs),
        name=name,
    )
    function = ir.serde.deserialize_function(lower(program, encoded, name))
    return RegionParts(node, blobs, function)


def region_model(program: RegionProgram, *, batch: int = 1) -> onnx.ModelProto:
    """A model that is this one region: for timing a layer, and for tests.

    Inputs ``x0, x1, ..`` and outputs ``y0, y1, ..`` are float32 of shape (batch, C, H, W) for
    planes and (batch, F) for rows.

    Raises:
        ValueError: the program is inconsistent.
    """
    shapes = value_shapes(program)
    inputs = [
        ir.Value(name=f"x{index}", shape=_shape(shape, batch), type=_FLOAT)
        for index, shape in enumerate(program.inputs)
    ]
    parts = region_parts(program, 0, inputs)
    for index, (output, number) in enumerate(zip(parts.node.outputs, program.outputs, strict=True)):
        output.name, output.type = f"y{index}", _FLOAT
        output.shape = _shape(shapes[number], batch)
    graph = ir.Graph(
        inputs,
        parts.node.outputs,
        nodes=[parts.node],
        initializers=parts.initializers,
        opset_imports={"": ONNX_OPSET, DOMAIN: DOMAIN_VERSION},
        name="region",
    )
    model = ir.Model(
        graph,
        ir_version=IR_VERSION,
        producer_name="pruneaug",
        producer_version=__version__,
        functions=[parts.function],
    )
    return ir.to_proto(model)


_FLOAT = ir.TensorType(ir.DataType.FLOAT)


def _initializer(name: str, array: npt.NDArray[np.float32] | npt.NDArray[np.uint8]) -> ir.Value:
    tensor = ir.Tensor(array, name=name)
    shape, kind = ir.Shape(tensor.shape), ir.TensorType(tensor.dtype)
    return ir.Value(name=name, shape=shape, type=kind, const_value=tensor)


def _shape(shape: ValueShape, batch: int) -> ir.Shape:
    match shape:
        case Planes(channels, height, width):
            return ir.Shape([batch, channels, height, width])
        case Rows(features):
            return ir.Shape([batch, features])
        case _:
            assert_never(shape)
