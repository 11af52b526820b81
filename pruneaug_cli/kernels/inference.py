"""Shapes of every value of a region program, and the check that the program makes sense."""

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import assert_never

from pruneaug_cli.kernels.program import (
    Activate,
    Add,
    AveragePool,
    Concat,
    Conv,
    Epilogue,
    Flatten,
    GlobalAveragePool,
    Instruction,
    LayerNorm,
    Linear,
    MaxPool,
    Pads,
    Pair,
    Planes,
    RegionProgram,
    Rows,
    Subsample,
    ValueShape,
)


def value_shapes(program: RegionProgram) -> tuple[ValueShape, ...]:
    """Shape of every value, inputs first.

    Raises:
        ValueError: the program is inconsistent; the message names the instruction.
    """
    if not program.inputs:
        raise ValueError("a region takes one or more inputs")
    if any(min(astuple(shape)) < 1 for shape in program.inputs):
        raise ValueError(f"every size of an input must be at least 1, got {program.inputs}")
    shapes: list[ValueShape] = list(program.inputs)
    for index, instruction in enumerate(program.instructions):
        try:
            shapes.append(_result(program, instruction, shapes))
        except ValueError as error:
            kind = type(instruction).__name__
            raise ValueError(f"instruction {index} ({kind}): {error}") from error
    if not program.outputs:
        raise ValueError("a region has at least one output")
    for value in program.outputs:
        if not len(program.inputs) <= value < len(shapes):
            raise ValueError(f"output {value} is not the result of an instruction")
    return tuple(shapes)


def _result(program: RegionProgram, op: Instruction, shapes: list[ValueShape]) -> ValueShape:
    match op:
        case Conv():
            return _conv(program, op, shapes)
        case Linear():
            source = _rows(shapes, op.source)
            matrix = program.weights[op.weight].shape
            _require(source.features == matrix.cols, f"{source} does not fit a {matrix} weight")
            return _finish(program, op.epilogue, Rows(matrix.rows), matrix.rows, shapes)
        case Add():
            left, right = _value(shapes, op.left), _value(shapes, op.right)
            _require(left == right, f"cannot add {left} and {right}")
            return left
        case Activate():
            return _value(shapes, op.source)
        case Concat():
            return _concat([_value(shapes, source) for source in op.sources])
        case LayerNorm():
            return _layer_norm(program, op, _rows(shapes, op.source))
        case _:
            return _reshaped(op, _planes(shapes, op.source))


def _reshaped(
    op: MaxPool | AveragePool | GlobalAveragePool | Flatten | Subsample, source: Planes
) -> ValueShape:
    match op:
        case MaxPool() | AveragePool():
            height, width = _windows(source, op.kernel, op.stride, op.pads, (1, 1))
            return Planes(source.channels, height, width)
        case GlobalAveragePool():
            return Rows(source.channels)
        case Flatten():
            return Rows(source.channels * source.height * source.width)
        case Subsample():
            channels = op.before + source.channels + op.after
            rows, cols = op.stride
            _require(min(rows, cols) >= 1 and min(op.before, op.after) >= 0, "bad sizes")
            return Planes(channels, -(-source.height // rows), -(-source.width // cols))
        case _:
            assert_never(op)


def _concat(parts: Sequence[ValueShape]) -> ValueShape:
    _require(len(parts) >= 2, f"joins two or more values, got {len(parts)}")
    rows = [part.features for part in parts if isinstance(part, Rows)]
    planes = [part for part in parts if isinstance(part, Planes)]
    if len(rows) == len(parts):
        return Rows(sum(rows))
    images = {(part.height, part.width) for part in planes}
    _require(not rows and len(images) == 1, "joins planes of one height and width, or rows")
    return Planes(sum(part.channels for part in planes), *images.pop())


def _layer_norm(program: RegionProgram, op: LayerNorm, source: Rows) -> Rows:
    for vector in (op.scale, op.bias):
        if vector is not None:
            size = program.biases[vector].shape
            _require(size == (source.features,), f"a vector of shape {size} does not fit {source}")
    _require(0 <= op.epsilon < math.inf, f"epsilon must be finite and at least 0: {op.epsilon}")
    return source


def _conv(program: RegionProgram, op: Conv, shapes: list[ValueShape]) -> ValueShape:
    source = _planes(shapes, op.source)
    matrix = program.weights[op.weight].shape
    divides = op.groups >= 1 and source.channels % op.groups == matrix.rows % op.groups == 0
    _require(divides, f"{op.groups} groups do not divide {source} and {matrix.rows} outputs")
    cols = source.channels // op.groups * op.kernel[0] * op.kernel[1]
    _require(cols == matrix.cols, f"{source} and kernel {op.kernel} do not fit a {matrix} weight")
    height, width = _windows(source, op.kernel, op.stride, op.pads, op.dilation)
    result = Planes(matrix.rows, height, width)
    return _finish(program, op.epilogue, result, matrix.rows, shapes)


def _finish(
    program: RegionProgram,
    epilogue: Epilogue,
    result: ValueShape,
    rows: int,
    shapes: list[ValueShape],
) -> ValueShape:
    if epilogue.bias is not None:
        size = program.biases[epilogue.bias].shape
        _require(size == (rows,), f"a bias of shape {size} does not fit {rows} outputs")
    if epilogue.residual is not None:
        residual = _value(shapes, epilogue.residual)
        _require(residual == result, f"a residual {residual} does not fit the result {result}")
    return result


def _windows(source: Planes, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair) -> Pair:
    _require(min(*kernel, *stride, *dilation) >= 1 and min(pads) >= 0, "bad window sizes")
    tall = source.height + pads[0] + pads[2] - dilation[0] * (kernel[0] - 1) - 1
    wide = source.width + pads[1] + pads[3] - dilation[1] * (kernel[1] - 1) - 1
    height, width = tall // stride[0] + 1, wide // stride[1] + 1
    _require(min(height, width) >= 1, f"no output positions for {source}")
    return height, width


def _value(shapes: list[ValueShape], number: int) -> ValueShape:
    _require(0 <= number < len(shapes), f"value {number} does not exist yet")
    return shapes[number]


def _planes(shapes: list[ValueShape], number: int) -> Planes:
    shape = _value(shapes, number)
    if not isinstance(shape, Planes):
        raise ValueError(f"needs planes, value {number} is {shape}")
    return shape


def _rows(shapes: list[ValueShape], number: int) -> Rows:
    shape = _value(shapes, number)
    if not isinstance(shape, Rows):
        raise ValueError(f"needs rows, value {number} is {shape}")
    return shape


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
