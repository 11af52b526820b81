"""The integer encoding of a region program and its two blobs: the format inside the ONNX file.

A region node has the attribute ``program`` (INTS) and the inputs ``values`` (float32, 1-D),
``masks`` (uint8, 1-D), then the region's inputs. Format version 2 of ``program``::

    [2, inputs, outputs, weights, instructions, operands]
    per input        [kind, a, b, c]        kind 1: planes of a channels, b high, c wide
                                            kind 2: rows of a features, b = c = 0
    per output       [value]
    per operand      [value]
    per weight       [M, K, r, c, blocks, values_offset, masks_offset]
                                            dense: r = c = blocks = 0, masks_offset = -1
    per instruction  [opcode, source, weight, bias_offset, residual,
                      activation, low, high, p0 .. p11]

``values`` holds, at ``values_offset``, ``blocks * r * c`` floats of a block-sparse weight (kept
blocks in row-major order of the grid, each row-major, overhang zero) or the M * K floats of a
dense one; and each bias at its ``bias_offset``. ``masks`` holds one bit per block, row-major,
highest bit first, each weight starting at a byte (:meth:`BlockMask.pack_bits`): at any useful
density smaller than the smallest integer index per block. What an instruction does not use is
-1 for source, weight, bias_offset, residual, and 0 elsewhere. Unused ``masks`` is one zero byte,
unused ``values`` one zero.

Opcodes and parameters::

    1 conv            p = kh kw  sh sw  top left bottom right  dh dw  groups
    2 linear
    3 add             source = left, residual = right
    4 activate
    5 max_pool        p = kh kw  sh sw  top left bottom right
    6 average_pool    p = kh kw  sh sw  top left bottom right  count_include_pad
    7 global_average_pool
    8 flatten
    9 subsample       p = sh sw  before after
    10 concat         source = its first value, p = its operands: the first of them, how many;
                      those of one concat stand behind those of the concat before
    11 layer_norm     p = offset of its scale, bits of its epsilon, features

The activation is its place in :data:`pruneaug_cli.kernels.activation.KINDS`; low and high are
the bits of its two float32 numbers, 0 when it takes none.

History: 1: first version, never released. 2: activations with numbers, twelve parameters, grouped
    convolutions, concat, layer_norm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import BsrMatrix
from pruneaug_cli.kernels.activation import NONE, Activation
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
    RegionProgram,
    Rows,
    Subsample,
    ValueShape,
    Weight,
)

VERSION = 2
HEADER, INPUT, WEIGHT, INSTRUCTION = 6, 4, 7, 20  # integers per record
PARAMETERS = 8  # where they start in an instruction's record

Scalar = TypeVar("Scalar", np.float32, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedRegion:
    """A program as the three things an ONNX node carries."""

    program: tuple[int, ...]
    values: Floats
    masks: npt.NDArray[np.uint8]


class _Blob(Generic[Scalar]):
    """Arrays laid one behind the other; ``add`` returns where each starts."""

    def __init__(self, dtype: type[Scalar]) -> None:
        self._parts: list[npt.NDArray[Scalar]] = []
        self._size = 0
        self._dtype: type[Scalar] = dtype

    def add(self, part: npt.NDArray[Scalar]) -> int:
        start = self._size
        self._parts.append(part.reshape(-1))
        self._size += part.size
        return start

    def join(self) -> npt.NDArray[Scalar]:
        empty: npt.NDArray[Scalar] = np.zeros(1, self._dtype)
        return np.concatenate(self._parts) if self._size else empty


def encode(program: RegionProgram) -> EncodedRegion:
    """Write a program as integers and blobs."""
    values, masks = _Blob(np.float32), _Blob(np.uint8)
    weights = [_encode_weight(weight, values, masks) for weight in program.weights]
    encoder = _InstructionEncoder(program.biases, [values.add(bias) for bias in program.biases])
    instructions = [encoder.encode(instruction) for instruction in program.instructions]
    records = [
        *(_encode_shape(shape) for shape in program.inputs),
        program.outputs,
        encoder.operands,
        *weights,
        *instructions,
    ]
    header = [
        VERSION, len(program.inputs), len(program.outputs), len(weights), len(instructions),
        len(encoder.operands),
    ]  # fmt: skip
    integers = [*header, *(number for record in records for number in record)]
    return EncodedRegion(tuple(integers), values.join(), masks.join())


def _encode_shape(shape: ValueShape) -> list[int]:
    match shape:
        case Planes(channels, height, width):
            return [1, channels, height, width]
        case Rows(features):
            return [2, features, 0, 0]
        case _:
            assert_never(shape)


def _encode_weight(weight: Weight, values: _Blob[np.float32], masks: _Blob[np.uint8]) -> list[int]:
    shape, matrix = weight.shape, weight.matrix
    if not isinstance(matrix, BsrMatrix):
        return [shape.rows, shape.cols, 0, 0, 0, values.add(matrix), -1]
    block = matrix.grid.block
    start, bits = values.add(matrix.values), masks.add(matrix.mask.pack_bits())
    return [shape.rows, shape.cols, block.rows, block.cols, matrix.mask.blocks, start, bits]


class _InstructionEncoder:
    """Writes instructions in order and collects the values that lists of them name."""

    def __init__(self, biases: Sequence[Floats], starts: Sequence[int]) -> None:
        self.operands: list[int] = []
        self._biases = biases
        self._starts = starts

    def encode(self, op: Instruction) -> list[int]:
        match op:
            case Conv():
                parameters = (*op.kernel, *op.stride, *op.pads, *op.dilation, op.groups)
                return self._product(1, op, parameters)
            case Linear():
                return self._product(2, op, ())
            case Add():
                return _record(3, op.left, residual=op.right, activation=op.activation)
            case Activate():
                return _record(4, op.source, activation=op.activation)
            case Concat():
                self.operands += op.sources
                start = len(self.operands) - len(op.sources)
                return _record(10, op.sources[0], parameters=(start, len(op.sources)))
            case LayerNorm():
                size = self._biases[op.scale].size
                numbers = (self._start(op.scale), _bits(op.epsilon), size)
                return _record(11, op.source, bias=self._start(op.bias), parameters=numbers)
            case _:
                return _encode_reshaping(op)

    def _product(self, opcode: int, op: Conv | Linear, parameters: tuple[int, ...]) -> list[int]:
        end = op.epilogue
        return _record(
            opcode,
            op.source,
            weight=op.weight,
            bias=self._start(end.bias),
            residual=-1 if end.residual is None else end.residual,
            activation=end.activation,
            parameters=parameters,
        )

    def _start(self, bias: int | None) -> int:
        return -1 if bias is None else self._starts[bias]


def _encode_reshaping(
    op: MaxPool | AveragePool | GlobalAveragePool | Flatten | Subsample,
) -> list[int]:
    match op:
        case MaxPool():
            return _record(5, op.source, parameters=(*op.kernel, *op.stride, *op.pads))
        case AveragePool():
            include = int(op.count_include_pad)
            return _record(6, op.source, parameters=(*op.kernel, *op.stride, *op.pads, include))
        case GlobalAveragePool():
            return _record(7, op.source)
        case Flatten():
            return _record(8, op.source)
        case Subsample():
            return _record(9, op.source, parameters=(*op.stride, op.before, op.after))
        case _:
            assert_never(op)


def _record(
    opcode: int,
    source: int,
    *,
    weight: int = -1,
    bias: int = -1,
    residual: int = -1,
    activation: Activation = NONE,
    parameters: tuple[int, ...] = (),
) -> list[int]:
    numbers = [_bits(activation.low), _bits(activation.high)]
    head = [opcode, source, weight, bias, residual, activation.code, *numbers]
    return [*head, *parameters, *[0] * (INSTRUCTION - PARAMETERS - len(parameters))]


def _bits(number: float) -> int:
    return int(np.float32(number).view(np.uint32))
