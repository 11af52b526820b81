"""Activations in graphs: one node, or the several that older exporters write for one.

A decomposed activation is found from its last node: the factors of the product it is, whichever
way they were multiplied together. Every node between the source and the last must serve nothing
else.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from pruneaug_cli.export.nodes import Reason, input_of, optional_input
from pruneaug_cli.export.ports import constant
from pruneaug_cli.kernels.activation import RELU, Activation, ActivationKind

_TOLERANCE = 1e-6  # relative: constants were rounded to float32, some more than once

_PLAIN: Mapping[str, ActivationKind] = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class FoundActivation:
    """An activation of ``source``, and the nodes that compute it, in graph order."""

    activation: Activation
    source: ir.Value
    nodes: tuple[ir.Node, ...]


def read_activation(node: ir.Node) -> FoundActivation | Reason:
    """The activation a single node is."""
    get_float = node.attributes.get_float
    match node.op_type:
        case "Relu":
            found = RELU
        case "Clip":
            clip = _clip(node)
            if isinstance(clip, str):
                return clip
            found = clip
        case "Gelu":
            tanh = node.attributes.get_string("approximate", "none") == "tanh"
            found = Activation("gelu_tanh" if tanh else "gelu")
        case "LeakyRelu":
            found = Activation("leaky_relu", get_float("alpha", 0.01))
        case "HardSigmoid":
            slope, offset = get_float("alpha", 0.2), get_float("beta", 0.5)
            found = Activation("hard_sigmoid", slope, offset)
        case _:
            found = Activation(_PLAIN[node.op_type])
    return FoundActivation(found, input_of(node, 0), (node,))


def _clip(node: ir.Node) -> Activation | Reason:
    bounds = []
    for index, absent in ((1, -math.inf), (2, math.inf)):
        value = optional_input(node, index)
        bound = absent if value is None else _scalar(value)
        if bound is None:
            return "its bounds are not constants"
        bounds.append(bound)
    try:
        return Activation("clip", *bounds)
    except ValueError as error:
        return str(error)


def read_product(node: ir.Node) -> FoundActivation | None:
    """The activation whose last node is the multiplication ``node``; None when it is none."""
    inner: list[ir.Node] = []
    scale, factors = 1.0, []
    for value in _factors(node, inner):
        number = _scalar(value)
        if number is None:
            factors.append(value)
        else:
            scale *= number
    if len(factors) != 2:
        return None
    for source, gate in (factors, factors[::-1]):
        nodes: list[ir.Node] = []
        kind = _gate(source, gate, scale, nodes)
        if kind is not None:
            return FoundActivation(Activation(kind), source, (*nodes, *reversed(inner), node))
    return None


def _factors(node: ir.Node, inner: list[ir.Node]) -> Iterator[ir.Value]:
    """What a multiplication multiplies; ``inner`` gets the multiplications inside it."""
    for index in (0, 1):
        value = input_of(node, index)
        maker = value.producer()
        if maker is not None and maker.op_type == "Mul" and _serves_only(maker, node):
            inner.append(maker)
            yield from _factors(maker, inner)
        else:
            yield value


def _gate(
    source: ir.Value, gate: ir.Value, scale: float, nodes: list[ir.Node]
) -> ActivationKind | None:
    """The activation ``scale * source * gate(source)`` is; ``nodes`` gets those of the gate."""
    last = gate.producer()
    if last is None or last.domain or len(gate.uses()) != 1 or gate.is_graph_output():
        return None
    nodes.append(last)
    get_float = last.attributes.get_float
    match last.op_type:
        case "Sigmoid" if last.inputs[0] is source and _near(scale, 1.0):
            return "silu"
        case "HardSigmoid" if last.inputs[0] is source and _near(scale, 1.0):
            sixth = _near(get_float("alpha", 0.2), 1 / 6) and _near(get_float("beta", 0.5), 0.5)
            return "hard_swish" if sixth else None
        case "Add" if _near(scale, 0.5) and _is_erf_plus_one(last, source, nodes):
            return "gelu"
        case _:
            return None


def _is_erf_plus_one(add: ir.Node, source: ir.Value, nodes: list[ir.Node]) -> bool:
    """Whether ``add`` computes ``erf(source / sqrt(2)) + 1``."""
    erf = _other_operand(add, 1.0)
    maker = erf.producer() if erf is not None else None
    if maker is None or maker.op_type != "Erf" or not _serves_only(maker, add):
        return False
    scaled = input_of(maker, 0).producer()
    if scaled is None or not _serves_only(scaled, maker):
        return False
    nodes[:0] = [scaled, maker]
    if scaled.op_type == "Div":
        divisor = _scalar(scaled.inputs[1])
        return scaled.inputs[0] is source and divisor is not None and _near(divisor, math.sqrt(2))
    return scaled.op_type == "Mul" and _other_operand(scaled, math.sqrt(0.5)) is source


def _other_operand(node: ir.Node, number: float) -> ir.Value | None:
    """The operand beside the constant ``number``."""
    for index in (0, 1):
        found = _scalar(node.inputs[index])
        if found is not None and _near(found, number):
            return node.inputs[1 - index]
    return None


def _serves_only(maker: ir.Node, user: ir.Node) -> bool:
    value = maker.outputs[0]
    return (
        not maker.domain
        and len(maker.outputs) == 1
        and not value.is_graph_output()
        and all(consumer is user for consumer in value.consumers())
    )


def _scalar(value: ir.Value | None) -> float | None:
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _near(found: float, wanted: float) -> bool:
    return math.isclose(found, wanted, rel_tol=_TOLERANCE)
