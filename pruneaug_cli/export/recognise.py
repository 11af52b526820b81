"""ONNX nodes read as atoms, or the reason why one cannot be.

Products and what is folded into them stand here; :mod:`~pruneaug_cli.export.reshaping` and
:mod:`~pruneaug_cli.export.activations` know the other nodes.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from pruneaug_cli.core import BsrMatrix
from pruneaug_cli.export import reshaping
from pruneaug_cli.export.activations import FoundActivation, read_activation, read_product
from pruneaug_cli.export.atoms import Atom, used_once
from pruneaug_cli.export.nodes import (
    PADDING,
    Reason,
    input_of,
    make_atom,
    optional_input,
    padding_is_written_out,
    pads,
    pair,
    pair_of,
)
from pruneaug_cli.export.ports import channel_vector, constant, planes, rows
from pruneaug_cli.kernels.activation import NONE
from pruneaug_cli.kernels.program import (
    Activate,
    Add,
    Concat,
    Conv,
    Epilogue,
    Floats,
    Instruction,
    LayerNorm,
    Linear,
    Weight,
)

COMPUTED_WEIGHT = "its weight is not a constant"
SCALE_INSTEAD = "scale a weight of the model instead"
NO_NUMBER = f"scales by a constant that is not one number: {SCALE_INSTEAD}"
NO_WEIGHT_BEFORE = f"scales what no layer alone makes: {SCALE_INSTEAD}"


@dataclass(frozen=True, slots=True, eq=False)
class Recognised:
    """The atoms of a graph in order, and for every other node why it is none."""

    atoms: tuple[Atom, ...]
    reasons: Mapping[ir.Node, Reason]


def recognise(nodes: Iterable[ir.Node], weights: Mapping[ir.Value, Weight]) -> Recognised:
    """Read nodes in topological order.

    Args:
        nodes: of one graph.
        weights: the planned layers, by the constant that holds their weight; other constant
            weights are dense.
    """
    reader = _Recogniser(weights)
    for node in nodes:
        reader.read(node)
    return Recognised(tuple(reader.atoms.values()), reader.reasons)


class _Recogniser:
    def __init__(self, weights: Mapping[ir.Value, Weight]) -> None:
        self.atoms: dict[ir.Value, Atom] = {}
        self.reasons: dict[ir.Node, Reason] = {}
        self._weights = dict(weights)
        self._made_of_rows: set[ir.Value] = set()  # four axes, yet rows: what Linear left behind

    def read(self, node: ir.Node) -> None:
        served = _SERVED.get(node.op_type) if node.domain == "" else None
        found = served(self, node) if served else f"{node.op_type} has no kernel"
        if isinstance(found, str):
            self.reasons[node] = found
            return
        for inner in found.nodes[:-1]:  # understood as a part of it
            self.reasons.pop(inner, None)
            self.atoms.pop(inner.outputs[0], None)
        self.atoms[found.output] = found

    def conv(self, node: ir.Node) -> Atom | Reason:
        if not padding_is_written_out(node):
            return PADDING
        kernel = input_of(node, 1)
        if kernel.shape is None or len(kernel.shape) != 4:
            return "not a 2-D convolution"
        addend = optional_input(node, 2)
        bias = constant(addend)
        if bias is None and addend is not None:
            return "its bias is not a constant"
        weight = self._weight(kernel, lambda array: array.reshape(array.shape[0], -1))
        if weight is None:
            return COMPUTED_WEIGHT
        op = Conv(
            0, 0, pair_of(kernel.shape.numpy()[2:]), pair(node, "strides"), pads(node),
            pair(node, "dilations"), Epilogue(None if bias is None else 0),
            node.attributes.get_int("group", 1),
        )  # fmt: skip
        biases = () if bias is None else (np.ascontiguousarray(bias, np.float32),)
        return make_atom(node, op, (input_of(node, 0),), planes, weight=weight, biases=biases)

    def gemm(self, node: ir.Node) -> Atom | Reason:
        get_int, get_float = node.attributes.get_int, node.attributes.get_float
        if get_int("transA", 0) or get_float("alpha", 1.0) != 1 or get_float("beta", 1.0) != 1:
            return "a scaled or transposed product"
        return self._linear(node, optional_input(node, 2), upright=get_int("transB", 0) != 0)

    def matmul(self, node: ir.Node) -> Atom | Reason:
        if constant(input_of(node, 1)) is None:
            return "a product of two activations"
        return self._linear(node, None, upright=False)

    def _linear(self, node: ir.Node, addend: ir.Value | None, *, upright: bool) -> Atom | Reason:
        result = rows(node.outputs[0])
        bias = channel_vector(addend, result) if result else None
        if addend is not None and bias is None:
            return "its bias is not a constant vector"
        weight = self._weight(input_of(node, 1), lambda array: array if upright else array.T)
        if weight is None:
            return COMPUTED_WEIGHT
        op = Linear(0, 0, Epilogue(None if bias is None else 0))
        self._made_of_rows.add(node.outputs[0])
        biases = () if bias is None else (bias,)
        return make_atom(node, op, (input_of(node, 0),), rows, weight=weight, biases=biases)

    def _weight(self, value: ir.Value, to_matrix: Callable[[Floats], Floats]) -> Weight | None:
        """The planned weight of a constant, or the constant itself as a dense one."""
        if value not in self._weights:
            array = constant(value)
            if array is None or array.dtype != np.float32 or array.ndim < 2:
                return None
            matrix = to_matrix(np.asarray(array, np.float32))
            self._weights[value] = Weight(value.name or "", np.ascontiguousarray(matrix))
        return self._weights[value]

    def add(self, node: ir.Node) -> Atom | Reason:
        left, right = input_of(node, 0), input_of(node, 1)
        if constant(right) is not None:
            return self._bias(node, left, right)
        if constant(left) is not None:
            return self._bias(node, right, left)
        return self._elementwise(node, Add(0, 1), (left, right))

    def _bias(self, node: ir.Node, value: ir.Value, addend: ir.Value) -> Atom | Reason:
        """Take a constant sum into the product before it: no instruction adds a bias alone."""
        product = self._open_product(value)
        if product is None:
            return "adds a constant to what is no product of its own"
        op, atom = product
        bias = channel_vector(addend, atom.result)
        if bias is None or atom.biases:
            return "adds a constant that is not a bias"
        changed = replace(op, epilogue=replace(op.epilogue, bias=0))
        return self._grown(atom, node, replace(atom, instruction=changed, biases=(bias,)))

    def mul(self, node: ir.Node) -> Atom | Reason:
        found = read_product(node)
        if found is not None:
            return self._activate(node, found)
        for factor, value in (node.inputs[::-1], node.inputs):
            if factor is not None and value is not None and constant(factor) is not None:
                return self._scale(node, value, constant(factor))
        return "a product of two activations"

    def divide(self, node: ir.Node) -> Atom | Reason:
        value, divisor = input_of(node, 0), constant(input_of(node, 1))
        if divisor is None:
            return "divides by what is computed"
        if divisor.size != 1 or not divisor.any():
            return NO_NUMBER
        return self._scale(node, value, 1 / float(divisor.item()))

    def _scale(self, node: ir.Node, value: ir.Value, factor: object) -> Atom | Reason:
        """Take a power of two into the weight before it: all rounding stays the same."""
        product, number = self._open_product(value), np.asarray(factor)
        if number.size != 1:
            return NO_NUMBER
        if product is None:
            return NO_WEIGHT_BEFORE
        if math.frexp(abs(number.item()))[0] != 0.5:
            return f"scales by {number.item():g}, no power of two: {SCALE_INSTEAD}"
        _, atom = product
        scale = np.float32(number.item())
        weight = None if atom.weight is None else _scaled(atom.weight, scale)
        biases = tuple(bias * scale for bias in atom.biases)
        return self._grown(atom, node, replace(atom, weight=weight, biases=biases))

    def _open_product(self, value: ir.Value) -> tuple[Conv | Linear, Atom] | None:
        """The product that makes ``value`` for one reader only, nothing folded in but a bias."""
        atom = self.atoms.get(value)
        op = atom.instruction if atom else None
        if atom is None or not isinstance(op, Conv | Linear) or not used_once(value):
            return None
        return (op, atom) if op.epilogue.activation == NONE else None

    def _grown(self, before: Atom, node: ir.Node, after: Atom) -> Atom:
        """``after`` with ``node`` as its last, in the place of ``before``."""
        if before.output in self._made_of_rows:
            self._made_of_rows.add(node.outputs[0])
        return replace(after, nodes=(*before.nodes, node), output=node.outputs[0])

    def activation(self, node: ir.Node) -> Atom | Reason:
        found = read_activation(node)
        return found if isinstance(found, str) else self._activate(node, found)

    def _activate(self, node: ir.Node, found: FoundActivation) -> Atom | Reason:
        atom = self._elementwise(node, Activate(0, found.activation), (found.source,))
        return atom if isinstance(atom, str) else replace(atom, nodes=found.nodes)

    def layer_norm(self, node: ir.Node) -> Atom | Reason:
        source = input_of(node, 0)
        port = rows(source)
        if port is None or source.shape is None:
            return "normalises what are no rows"
        if node.attributes.get_int("axis", -1) not in (-1, len(source.shape) - 1):
            return "normalises more axes than the last"
        scale, addend = channel_vector(input_of(node, 1), port), optional_input(node, 2)
        bias = channel_vector(addend, port)
        if scale is None or (addend is not None and bias is None):
            return "its scale or bias is not a constant vector"
        op = LayerNorm(
            0, 0, None if bias is None else 1, node.attributes.get_float("epsilon", 1e-5)
        )
        self._made_of_rows.add(node.outputs[0])
        return make_atom(
            node, op, (source,), rows, biases=(scale,) if bias is None else (scale, bias)
        )

    def concat(self, node: ir.Node) -> Atom | Reason:
        values = tuple(value for value in node.inputs if value is not None)
        axis = node.attributes.get_int("axis", 1)
        op = Concat(tuple(range(len(values))))
        if self._are_planes(values):
            return make_atom(node, op, values, planes) if axis in (1, -3) else "joins other axes"
        rank = len(values[0].shape) if values[0].shape is not None else 0
        if axis not in (-1, rank - 1):
            return "joins other axes than channels or features"
        self._made_of_rows.add(node.outputs[0])
        return make_atom(node, op, values, rows)

    def _elementwise(
        self, node: ir.Node, op: Instruction, values: tuple[ir.Value, ...]
    ) -> Atom | Reason:
        if self._are_planes(values):
            return make_atom(node, op, values, planes)
        self._made_of_rows.add(node.outputs[0])
        return make_atom(node, op, values, rows)

    def _are_planes(self, values: Sequence[ir.Value]) -> bool:
        four_axes = all(value.shape is not None and len(value.shape) == 4 for value in values)
        return four_axes and self._made_of_rows.isdisjoint(values)


def _scaled(weight: Weight, scale: np.float32) -> Weight:
    matrix = weight.matrix
    if isinstance(matrix, BsrMatrix):
        return Weight(weight.name, replace(matrix, values=matrix.values * scale))
    return Weight(weight.name, matrix * scale)


def _alone(
    read: Callable[[ir.Node], Atom | Reason],
) -> Callable[[_Recogniser, ir.Node], Atom | Reason]:
    return lambda _, node: read(node)


_SERVED: Mapping[str, Callable[[_Recogniser, ir.Node], Atom | Reason]] = {
    "Conv": _Recogniser.conv,
    "Gemm": _Recogniser.gemm,
    "MatMul": _Recogniser.matmul,
    "Add": _Recogniser.add,
    "Mul": _Recogniser.mul,
    "Div": _Recogniser.divide,
    "LayerNormalization": _Recogniser.layer_norm,
    "Concat": _Recogniser.concat,
    **dict.fromkeys(
        ("Relu", "Clip", "Gelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu"),
        _Recogniser.activation,
    ),
    "MaxPool": _alone(reshaping.pool),
    "AveragePool": _alone(reshaping.pool),
    "ReduceMean": _alone(reshaping.reduce_mean),
    "GlobalAveragePool": _alone(reshaping.global_average_pool),
    "Flatten": _alone(reshaping.flatten),
    "Reshape": _alone(reshaping.reshape),
    "Slice": _alone(reshaping.take_every),
    "Pad": _alone(reshaping.pad_channels),
}
