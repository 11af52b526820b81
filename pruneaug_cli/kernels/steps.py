"""What the steps of a region are called, and how much work they are: for tables of step times."""

import dataclasses
from typing import Literal

from pruneaug_cli.core import BsrMatrix
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.program import Conv, Linear, Planes, RegionProgram, ValueShape, Weight

StepKind = Literal["load", "store", "split", "compute"]


def step_name(program: RegionProgram, kind: StepKind, number: int) -> str:
    """A step in words: ``3 Conv 64 <- 64x56x56 3x3/1 8x1 @ 0.9 +residual relu``.

    Args:
        program: what the region computes.
        kind: of the step.
        number: of the input (load), the output (store) or the instruction (split, compute).
    """
    shapes = value_shapes(program)
    if kind == "load":
        return f"load input {number}: {_shape(shapes[number])}"
    if kind == "store":
        return f"store output {number}: {_shape(shapes[program.outputs[number]])}"
    op = program.instructions[number]
    words = [str(number), type(op).__name__]
    result = shapes[len(program.inputs) + number]
    sources = getattr(op, dataclasses.fields(op)[0].name)  # the first field of every instruction
    several = sources if isinstance(sources, tuple) else (sources,)
    words += [_shape(result), "<-", " ".join(_shape(shapes[source]) for source in several)]
    kernel, stride = getattr(op, "kernel", None), getattr(op, "stride", (1, 1))
    if kernel is not None:
        words.append("x".join(map(str, kernel)) + f"/{stride[0]}")
    if isinstance(op, Conv | Linear):
        words.append(_weight(program.weights[op.weight]))
        words.append("+residual" if op.epilogue.residual is not None else "")
        words.append(op.epilogue.activation.kind.replace("none", ""))
    text = " ".join(word for word in words if word)
    return f"split for {text}" if kind == "split" else text


def step_macs(program: RegionProgram, kind: StepKind, number: int) -> int:
    """Multiply-adds of kept blocks per sample; 0 of what is no product."""
    op = program.instructions[number] if kind == "compute" else None
    if not isinstance(op, Conv | Linear):
        return 0
    weight = program.weights[op.weight]
    result = value_shapes(program)[len(program.inputs) + number]
    positions = result.height * result.width if isinstance(result, Planes) else 1
    if isinstance(weight.matrix, BsrMatrix):
        return weight.matrix.values.size * positions
    return weight.matrix.size * positions


def _shape(shape: ValueShape) -> str:
    if isinstance(shape, Planes):
        return f"{shape.channels}x{shape.height}x{shape.width}"
    return str(shape.features)


def _weight(weight: Weight) -> str:
    if weight.mask is None:
        return "dense"
    return f"{weight.mask.grid.block} @ {weight.mask.sparsity:.2g}"
