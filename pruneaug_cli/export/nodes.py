"""Reading single ONNX nodes: their inputs and attributes, and atoms made of them.

Nothing is guessed: the result of every atom is inferred by the kernels' own rules and must have
the sizes the graph states, so an attribute that means more than we know (a ceiling mode, a
broadcast) leaves the node outside instead of computing something else.
"""

from collections.abc import Callable, Iterable

import onnx_ir as ir

from pruneaug_cli.export.atoms import Atom, Port
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.limits import MOST_AXES, why_too_large
from pruneaug_cli.kernels.program import Floats, Instruction, Pads, Pair, RegionProgram, Weight

Reason = str
Reader = Callable[[ir.Value], Port | None]

UNKNOWN_SIZES = "its sizes are not known before it runs"
TOO_MANY_AXES = f"rows of more than {MOST_AXES} axes"
PADDING = "its padding is not written out (auto_pad)"


def make_atom(
    node: ir.Node,
    op: Instruction,
    inputs: tuple[ir.Value, ...],
    read: Reader,
    write: Reader | None = None,
    *,
    weight: Weight | None = None,
    biases: tuple[Floats, ...] = (),
) -> Atom | Reason:
    """Make an atom of one node, if its sizes are those its instruction gives."""
    output = node.outputs[0]
    found, result = [read(value) for value in inputs], (write or read)(output)
    ports = tuple(port for port in found if port is not None)
    if len(ports) != len(inputs) or result is None:
        return UNKNOWN_SIZES
    if any(port.leading != result.leading for port in ports):
        return "mixes samples"
    if len(result.leading) >= MOST_AXES:
        return TOO_MANY_AXES
    weights = () if weight is None else (weight,)
    shapes = tuple(port.shape for port in ports)
    try:
        shape = value_shapes(RegionProgram(shapes, (op,), (len(ports),), weights, biases))[-1]
    except ValueError as error:
        return str(error)
    if shape != result.shape:
        return f"its result is {result.shape}, a kernel makes {shape}"
    if reason := why_too_large(op, shapes, shape, weight):
        return reason
    return Atom((node,), op, inputs, ports, output, result, weight, biases)


def input_of(node: ir.Node, index: int) -> ir.Value:
    """An input the operator requires.

    Raises:
        ValueError: the node does not have it: no valid graph.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise ValueError(f"{node.op_type} {node.name!r} lacks input {index}")
    return value


def optional_input(node: ir.Node, index: int) -> ir.Value | None:
    """An input that may be absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def padding_is_written_out(node: ir.Node) -> bool:
    """Whether ``pads`` says all about the padding."""
    return node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"


def pair(node: ir.Node, name: str) -> Pair:
    """A vertical and a horizontal number; ones when the attribute is absent."""
    return pair_of(node.attributes.get_ints(name, (1, 1)))


def pair_of(numbers: Iterable[int]) -> Pair:
    """Exactly two numbers."""
    first, second = numbers
    return (int(first), int(second))


def pads(node: ir.Node) -> Pads:
    """The attribute ``pads``, zeros when it is absent."""
    top, left, bottom, right = node.attributes.get_ints("pads", (0, 0, 0, 0))
    return (top, left, bottom, right)
