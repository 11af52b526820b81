"""Atoms: what a region is planned from. One instruction and the ONNX nodes it stands for.

Recognition makes one atom per node; fusing then folds a residual sum and an activation into the
product before them, joins subsamplings, and turns "mean over all positions, flattened" into one
instruction. An atom is closed: only its last node's output is used outside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import onnx_ir as ir

from pruneaug_cli.kernels.activation import NONE
from pruneaug_cli.kernels.program import (
    Activate,
    Add,
    AveragePool,
    Concat,
    Conv,
    Flatten,
    Floats,
    GlobalAveragePool,
    Instruction,
    LayerNorm,
    Linear,
    MaxPool,
    Planes,
    Subsample,
    ValueShape,
    Weight,
)


@dataclass(frozen=True, slots=True)
class Port:
    """How a tensor enters or leaves an instruction: its leading sizes, and one sample.

    ``leading`` holds numbers and names of dynamic sizes: (N,) for planes, all but the last size
    for rows. Two atoms can share a region only over a tensor both see alike.
    """

    leading: tuple[int | str, ...]
    shape: ValueShape


@dataclass(frozen=True, slots=True, eq=False)
class Atom:
    """One instruction over named tensors.

    Attributes:
        nodes: the ONNX nodes it replaces, in graph order.
        instruction: reads value ``i`` as ``inputs[i]``, bias ``i`` as ``biases[i]``; its weight has
            the number 0.
        inputs, ports: the tensors read, and how.
        output, result: the tensor made, and how.
        weight: of a product; it carries the layer's name.
        biases: its vectors.
    """

    nodes: tuple[ir.Node, ...]
    instruction: Instruction
    inputs: tuple[ir.Value, ...]
    ports: tuple[Port, ...]
    output: ir.Value
    result: Port
    weight: Weight | None = None
    biases: tuple[Floats, ...] = ()


def renumber(
    op: Instruction, values: Sequence[int], weight: int = 0, first: int = 0
) -> Instruction:
    """Make an atom's instruction one of a program.

    Its i-th input is value ``values[i]``, its i-th vector has the number ``first + i`` there.
    """
    match op:
        case Conv() | Linear():
            residual = None if op.epilogue.residual is None else values[op.epilogue.residual]
            bias = None if op.epilogue.bias is None else first + op.epilogue.bias
            epilogue = replace(op.epilogue, bias=bias, residual=residual)
            return replace(op, source=values[op.source], weight=weight, epilogue=epilogue)
        case Add():
            return replace(op, left=values[op.left], right=values[op.right])
        case Concat():
            return Concat(tuple(values[source] for source in op.sources))
        case LayerNorm():
            bias = None if op.bias is None else first + op.bias
            return replace(op, source=values[op.source], scale=first + op.scale, bias=bias)
        case Activate() | MaxPool() | AveragePool() | GlobalAveragePool() | Flatten() | Subsample():
            return replace(op, source=values[op.source])
        case _:
            assert_never(op)


def fuse(atoms: Sequence[Atom]) -> list[Atom]:
    """Fold atoms into the ones before them; the order of their last nodes is kept."""
    fused: dict[ir.Value, Atom] = {}
    for atom in atoms:
        merged = _with_residual(atom, fused) or _with_successor(atom, fused) or atom
        fused[merged.output] = merged
    return list(fused.values())


def used_once(value: ir.Value) -> bool:
    """Whether exactly one node reads ``value``, once, and it does not leave the graph."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def _with_successor(atom: Atom, made: dict[ir.Value, Atom]) -> Atom | None:
    """Join ``atom`` with the one that makes its input, taking that out of ``made``."""
    before = made.get(atom.inputs[0])
    if before is None or not _serves_only(before, atom) or before.result != atom.ports[0]:
        return None
    instruction = _joined(before, atom.instruction)
    if instruction is None:
        return None
    del made[before.output]
    nodes = (*before.nodes, *atom.nodes)
    return replace(
        before, nodes=nodes, instruction=instruction, output=atom.output, result=atom.result
    )


def _serves_only(before: Atom, atom: Atom) -> bool:
    """Whether nothing but ``atom`` reads what ``before`` makes; SiLU's two nodes both read it."""
    value = before.output
    return not value.is_graph_output() and all(user in atom.nodes for user in value.consumers())


def _joined(before: Atom, op: Instruction) -> Instruction | None:
    match before.instruction, op:
        case Conv() | Linear() as product, Activate() if product.epilogue.activation == NONE:
            epilogue = replace(product.epilogue, activation=op.activation)
            return replace(product, epilogue=epilogue)
        case Add() as total, Activate() if total.activation == NONE:
            return replace(total, activation=op.activation)
        case Subsample() as first, Subsample():
            # zero channels stay zero channels when sampled, so the strides simply multiply
            stride = (first.stride[0] * op.stride[0], first.stride[1] * op.stride[1])
            return Subsample(0, stride, first.before + op.before, first.after + op.after)
        case AveragePool() as pool, Flatten() if _covers(pool, before.ports[0].shape):
            return GlobalAveragePool(0)
        case _:
            return None


def _covers(pool: AveragePool, shape: ValueShape) -> bool:
    return (
        isinstance(shape, Planes)
        and pool.kernel == (shape.height, shape.width)
        and pool.pads == (0, 0, 0, 0)
    )


def _with_residual(total: Atom, made: dict[ir.Value, Atom]) -> Atom | None:
    """Take a sum into the later of the products it adds, which is taken out of ``made``."""
    if not isinstance(total.instruction, Add):
        return None
    for value in reversed(list(made)):
        product = made[value]
        op = _open_product(product)
        if value in total.inputs and op is not None and product.result == total.result:
            del made[value]
            other = 1 - total.inputs.index(value)
            return replace(
                product,
                nodes=(*product.nodes, *total.nodes),
                instruction=replace(op, epilogue=replace(op.epilogue, residual=1)),
                inputs=(*product.inputs, total.inputs[other]),
                ports=(*product.ports, total.ports[other]),
                output=total.output,
            )
    return None


def _open_product(atom: Atom) -> Conv | Linear | None:
    """The product of an atom that can still take a residual in."""
    op = atom.instruction
    if not isinstance(op, Conv | Linear) or not used_once(atom.output):
        return None
    return op if op.epilogue.residual is None and op.epilogue.activation == NONE else None
