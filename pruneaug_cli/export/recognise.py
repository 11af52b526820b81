"""ONNX nodes read as atoms, or the reason why one cannot be.

Nothing is guessed: the result of every atom is inferred by the kernels' own rules and must have
the sizes the graph states, so an attribute that means more than we know (a ceiling mode, a
broadcast) leaves the node outside instead of computing something else.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from pruneaug_cli.export.atoms import Atom, Port, used_once
from pruneaug_cli.export.ports import (
    channel_vector,
    constant,
    integers,
    planes,
    rows,
)
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.program import (
    Activate,
    Add,
    AveragePool,
    Conv,
    Epilogue,
    Flatten,
    Floats,
    GlobalAveragePool,
    Instruction,
    Linear,
    MaxPool,
    Pads,
    Pair,
    Planes,
    RegionProgram,
    Subsample,
    Weight,
)

Reason = str
Reader = Callable[[ir.Value], Port | None]

UNKNOWN_SIZES = "its sizes are not known before it runs"
NOT_PLANNED = "its weight is not a layer of the plan"
PADDING = "its padding is not written out (auto_pad)"


@dataclass(frozen=True, slots=True, eq=False)
class Recognised:
    """The atoms of a graph in order, and for every other node why it is none."""

    atoms: tuple[Atom, ...]
    reasons: Mapping[ir.Node, Reason]


def recognise(nodes: Iterable[ir.Node], weights: Mapping[ir.Value, Weight]) -> Recognised:
    """Read nodes in topological order.

    Args:
        nodes: of one graph.
        weights: the planned layers, by the constant that holds their weight.
    """
    reader = _Recogniser(weights)
    for node in nodes:
        reader.read(node)
    return Recognised(tuple(reader.atoms.values()), reader.reasons)


class _Recogniser:
    def __init__(self, weights: Mapping[ir.Value, Weight]) -> None:
        self.atoms: dict[ir.Value, Atom] = {}
        self.reasons: dict[ir.Node, Reason] = {}
        self._weights = weights
        self._made_of_rows: set[ir.Value] = set()  # four axes, yet rows: what Linear left behind

    def read(self, node: ir.Node) -> None:
        served = _SERVED.get(node.op_type) if node.domain == "" else None
        found = served(self, node) if served else f"{node.op_type} has no kernel"
        if isinstance(found, str):
            self.reasons[node] = found
        else:
            self.atoms[found.output] = found

    def conv(self, node: ir.Node) -> Atom | Reason:
        if node.attributes.get_int("group", 1) != 1:
            return "a grouped convolution"
        if not _written_out(node):
            return PADDING
        source, kernel = _input(node, 0), _input(node, 1)
        weight = self._weights.get(kernel)
        if weight is None:
            return NOT_PLANNED
        if kernel.shape is None or len(kernel.shape) != 4:
            return "not a 2-D convolution"
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if bias is None and len(node.inputs) > 2:
            return "its bias is not a constant"
        op = Conv(
            0, 0, _pair_of(kernel.shape.numpy()[2:]), _pair(node, "strides"), _pads(node),
            _pair(node, "dilations"), Epilogue(None if bias is None else 0),
        )  # fmt: skip
        return _atom(node, op, (source,), planes, weight=weight, bias=_floats(bias))

    def gemm(self, node: ir.Node) -> Atom | Reason:
        get_int, get_float = node.attributes.get_int, node.attributes.get_float
        if get_int("transA", 0) or get_float("alpha", 1.0) != 1 or get_float("beta", 1.0) != 1:
            return "a scaled or transposed product"
        addend = node.inputs[2] if len(node.inputs) > 2 else None
        return self._linear(node, addend)

    def matmul(self, node: ir.Node) -> Atom | Reason:
        if constant(node.inputs[1]) is None:
            return "a product of two activations"
        return self._linear(node, None)

    def _linear(self, node: ir.Node, addend: ir.Value | None) -> Atom | Reason:
        weight = self._weights.get(_input(node, 1))
        if weight is None:
            return NOT_PLANNED
        result = rows(node.outputs[0])
        bias = channel_vector(addend, result) if result else None
        if addend is not None and bias is None:
            return "its bias is not a constant vector"
        op = Linear(0, 0, Epilogue(None if bias is None else 0))
        self._made_of_rows.add(node.outputs[0])
        return _atom(node, op, (_input(node, 0),), rows, weight=weight, bias=bias)

    def add(self, node: ir.Node) -> Atom | Reason:
        left, right = _input(node, 0), _input(node, 1)
        if constant(right) is not None:
            return self._bias(node, left, right)
        if constant(left) is not None:
            return self._bias(node, right, left)
        return self._elementwise(node, Add(0, 1), (left, right))

    def _bias(self, node: ir.Node, value: ir.Value, addend: ir.Value) -> Atom | Reason:
        """Take a constant sum into the product before it: no instruction adds a bias alone."""
        product = self.atoms.get(value)
        op = product.instruction if product else None
        if not product or not isinstance(op, Conv | Linear) or not used_once(value):
            return "adds a constant to what is no product of its own"
        bias = channel_vector(addend, product.result)
        if bias is None or op.epilogue.bias is not None:
            return "adds a constant that is not a bias"
        del self.atoms[value]
        if value in self._made_of_rows:
            self._made_of_rows.add(node.outputs[0])
        return replace(
            product,
            nodes=(*product.nodes, node),
            instruction=replace(op, epilogue=replace(op.epilogue, bias=0)),
            output=node.outputs[0],
            bias=bias,
        )

    def relu(self, node: ir.Node) -> Atom | Reason:
        return self._elementwise(node, Activate(0, RELU), (_input(node, 0),))

    def _elementwise(
        self, node: ir.Node, op: Instruction, values: tuple[ir.Value, ...]
    ) -> Atom | Reason:
        four_axes = all(value.shape is not None and len(value.shape) == 4 for value in values)
        if four_axes and self._made_of_rows.isdisjoint(values):
            return _atom(node, op, values, planes)
        self._made_of_rows.add(node.outputs[0])
        return _atom(node, op, values, rows)

    def pool(self, node: ir.Node) -> Atom | Reason:
        if len(node.attributes.get_ints("kernel_shape", ())) != 2:
            return "not a 2-D pool"
        if not _written_out(node):
            return PADDING
        if _pair(node, "dilations") != (1, 1):
            return "pools with dilation"
        if len(node.outputs) > 1:
            return "also returns where the maxima are"
        window = (_pair(node, "kernel_shape"), _pair(node, "strides"), _pads(node))
        include = node.attributes.get_int("count_include_pad", 0)
        maximum = node.op_type == "MaxPool"
        op = MaxPool(0, *window) if maximum else AveragePool(0, *window, include != 0)
        return _atom(node, op, (_input(node, 0),), planes)

    def reduce_mean(self, node: ir.Node) -> Atom | Reason:
        axes = integers(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
            return "takes a mean over other axes than height and width"
        keepdims = node.attributes.get_int("keepdims", 1)
        return self._mean(node, keep=keepdims != 0)

    def global_average_pool(self, node: ir.Node) -> Atom | Reason:
        return self._mean(node, keep=True)

    def _mean(self, node: ir.Node, *, keep: bool) -> Atom | Reason:
        source = _input(node, 0)
        port = planes(source)
        if port is None or not isinstance(port.shape, Planes):
            return UNKNOWN_SIZES
        if not keep:
            return _atom(node, GlobalAveragePool(0), (source,), planes, rows)
        whole = (port.shape.height, port.shape.width)
        return _atom(node, AveragePool(0, whole, (1, 1)), (source,), planes)

    def flatten(self, node: ir.Node) -> Atom | Reason:
        if node.attributes.get_int("axis", 1) != 1:
            return "flattens from another axis than the first"
        return _atom(node, Flatten(0), (_input(node, 0),), planes, rows)

    def reshape(self, node: ir.Node) -> Atom | Reason:
        if constant(node.inputs[1]) is None:
            return "its target shape is computed"
        return _atom(node, Flatten(0), (_input(node, 0),), planes, rows)

    def slice(self, node: ir.Node) -> Atom | Reason:
        source = _input(node, 0)
        port, bounds = planes(source), [integers(value) for value in node.inputs[1:]]
        if port is None or not isinstance(port.shape, Planes) or len(bounds) < 4:
            return "not every n-th row and column of planes"
        lengths = {2: port.shape.height, 3: port.shape.width}
        starts, ends, axes, steps = (bound or () for bound in bounds)
        stride = {2: 1, 3: 1}
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            if axis % 4 not in lengths or start or end < lengths[axis % 4] or step < 1:
                return "not every n-th row and column of planes"
            stride[axis % 4] = step
        return _atom(node, Subsample(0, (stride[2], stride[3])), (source,), planes)

    def pad(self, node: ir.Node) -> Atom | Reason:
        pads = integers(node.inputs[1])
        fill = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        plain = node.attributes.get_string("mode", "constant") == "constant"
        channels_only = pads is not None and len(pads) == 8 and not any(_but(pads, (1, 5)))
        if pads is None or not plain or not channels_only or (fill is not None and fill.any()):
            return "pads other axes than channels, or with other values than zero"
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            return "pads axes given apart"
        return _atom(node, Subsample(0, (1, 1), pads[1], pads[5]), (_input(node, 0),), planes)


def _atom(
    node: ir.Node,
    op: Instruction,
    inputs: tuple[ir.Value, ...],
    read: Reader,
    write: Reader | None = None,
    *,
    weight: Weight | None = None,
    bias: Floats | None = None,
) -> Atom | Reason:
    """Make an atom of one node, if its sizes are those its instruction gives."""
    output = node.outputs[0]
    found, result = [read(value) for value in inputs], (write or read)(output)
    ports = tuple(port for port in found if port is not None)
    if len(ports) != len(inputs) or result is None:
        return UNKNOWN_SIZES
    if any(port.leading != result.leading for port in ports):
        return "mixes samples"
    program = RegionProgram(
        tuple(port.shape for port in ports),
        (op,),
        (len(ports),),
        () if weight is None else (weight,),
        () if bias is None else (bias,),
    )
    try:
        shape = value_shapes(program)[-1]
    except ValueError as error:
        return str(error)
    if shape != result.shape:
        return f"its result is {result.shape}, a kernel makes {shape}"
    return Atom((node,), op, inputs, ports, output, result, weight, bias)


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    if value is None:
        raise ValueError(f"{node.op_type} {node.name!r} lacks input {index}")
    return value


def _written_out(node: ir.Node) -> bool:
    return node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"


def _pair(node: ir.Node, name: str) -> Pair:
    return _pair_of(node.attributes.get_ints(name, (1, 1)))


def _pair_of(numbers: Iterable[int]) -> Pair:
    first, second = numbers
    return (int(first), int(second))


def _pads(node: ir.Node) -> Pads:
    top, left, bottom, right = node.attributes.get_ints("pads", (0, 0, 0, 0))
    return (top, left, bottom, right)


def _but(numbers: tuple[int, ...], places: tuple[int, ...]) -> list[int]:
    return [number for place, number in enumerate(numbers) if place not in places]


def _floats(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None) -> Floats | None:
    return None if array is None else np.ascontiguousarray(array, np.float32)


_SERVED: Mapping[str, Callable[[_Recogniser, ir.Node], Atom | Reason]] = {
    "Conv": _Recogniser.conv,
    "Gemm": _Recogniser.gemm,
    "MatMul": _Recogniser.matmul,
    "Add": _Recogniser.add,
    "Relu": _Recogniser.relu,
    "MaxPool": _Recogniser.pool,
    "AveragePool": _Recogniser.pool,
    "ReduceMean": _Recogniser.reduce_mean,
    "GlobalAveragePool": _Recogniser.global_average_pool,
    "Flatten": _Recogniser.flatten,
    "Reshape": _Recogniser.reshape,
    "Slice": _Recogniser.slice,
    "Pad": _Recogniser.pad,
}
