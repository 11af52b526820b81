"""The integer encoding of a region program and its two blobs: the format inside the ONNX file.

A region node has the attribute ``program`` (INTS) and the inputs ``values`` (float32, 1-D),
``masks`` (uint8, 1-D), then the region's inputs. Format version 2 of ``program``::

    [2, inputs, outputs, weights, instructions]
    per input        [kind, a, b, c]        kind 1: planes of a channels, b high, c wide
                                            kind 2: rows of a features, b = c = 0
    per output       [value]
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

    1 conv            p = kh kw  sh sw  top left bottom right  dh dw
    2 linear
    3 add             source = left, residual = right
    4 activate
    5 max_pool        p = kh kw  sh sw  top left bottom right
    6 average_pool    p = kh kw  sh sw  top left bottom right  count_include_pad
    7 global_average_pool
    8 flatten
    9 subsample       p = sh sw  before after

The activation is its place in :data:`pruneaug_cli.kernels.activation.KINDS`; low and high are
the bits of its two float32 numbers, 0 when it takes none.

History: 1: first version, never released. 2: activations with numbers, twelve parameters.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.kernels.activation import KINDS, NONE, Activation
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
    Planes,
    RegionProgram,
    Rows,
    Subsample,
    ValueShape,
    Weight,
)

VERSION = 2
HEADER, INPUT, WEIGHT, INSTRUCTION = 5, 4, 7, 20  # integers per record
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
    biases = [values.add(bias) for bias in program.biases]
    integers = [
        VERSION, len(program.inputs), len(program.outputs), len(weights), len(program.instructions)
    ]  # fmt: skip
    for shape in program.inputs:
        integers += _encode_shape(shape)
    integers += program.outputs
    for record in weights:
        integers += record
    for instruction in program.instructions:
        integers += _encode_instruction(instruction, biases)
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


def _encode_instruction(op: Instruction, biases: list[int]) -> list[int]:
    match op:
        case Conv():
            parameters = (*op.kernel, *op.stride, *op.pads, *op.dilation)
            return _product(1, op.source, op.weight, op.epilogue, biases, parameters)
        case Linear():
            return _product(2, op.source, op.weight, op.epilogue, biases, ())
        case Add():
            return _record(3, op.left, residual=op.right, activation=op.activation)
        case Activate():
            return _record(4, op.source, activation=op.activation)
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


def _product(
    opcode: int,
    source: int,
    weight: int,
    epilogue: Epilogue,
    biases: list[int],
    parameters: tuple[int, ...],
) -> list[int]:
    return _record(
        opcode,
        source,
        weight=weight,
        bias=-1 if epilogue.bias is None else biases[epilogue.bias],
        residual=-1 if epilogue.residual is None else epilogue.residual,
        activation=epilogue.activation,
        parameters=parameters,
    )


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
    numbers = [int(np.float32(x).view(np.uint32)) for x in (activation.low, activation.high)]
    head = [opcode, source, weight, bias, residual, activation.code, *numbers]
    return [*head, *parameters, *[0] * (INSTRUCTION - PARAMETERS - len(parameters))]


class _Reader:
    """Takes records off the front of the integers; running out is an error."""

    def __init__(self, integers: tuple[int, ...]) -> None:
        self._integers = integers
        self._position = 0

    def take(self, count: int) -> tuple[int, ...]:
        record = self._integers[self._position : self._position + count]
        if len(record) != count:
            raise ValueError(f"program ends after {len(self._integers)} integers")
        self._position += count
        return record

    def finish(self) -> None:
        rest = len(self._integers) - self._position
        if rest:
            raise ValueError(f"{rest} integers behind the end of the program")


def decode(encoded: EncodedRegion) -> RegionProgram:
    """Read what :func:`encode` wrote.

    Raises:
        ValueError: another version, a record cut short, an offset outside its blob.
    """
    reader = _Reader(encoded.program)
    version, inputs, outputs, weights, instructions = reader.take(HEADER)
    if version != VERSION:
        raise ValueError(
            f"program version {version} is not the supported {VERSION}: export the model again"
        )
    shapes = tuple(_decode_shape(reader.take(INPUT)) for _ in range(inputs))
    values = reader.take(outputs)
    matrices = tuple(
        _decode_weight(index, reader.take(WEIGHT), encoded) for index in range(weights)
    )
    biases: list[Floats] = []
    decoded = tuple(
        _decode_instruction(reader.take(INSTRUCTION), matrices, encoded.values, biases)
        for _ in range(instructions)
    )
    reader.finish()
    return RegionProgram(shapes, decoded, values, matrices, tuple(biases))


def _decode_shape(record: tuple[int, ...]) -> ValueShape:
    kind, a, b, c = record
    if kind == 1:
        return Planes(a, b, c)
    if kind == 2:
        return Rows(a)
    raise ValueError(f"unknown kind of input {kind}")


def _decode_weight(index: int, record: tuple[int, ...], encoded: EncodedRegion) -> Weight:
    rows, cols, r, c, blocks, start, bits = record
    name = f"weight{index}"
    if r == 0:
        return Weight(name, _cut(encoded.values, start, rows * cols, name).reshape(rows, cols))
    grid = BlockGrid(MatrixShape(rows, cols), BlockShape(r, c))
    size = -(-grid.size // 8)
    if bits < 0 or bits + size > encoded.masks.size:
        raise ValueError(f"{name}: mask lies outside the blob of {encoded.masks.size} bytes")
    mask = BlockMask.unpack_bits(grid, encoded.masks[bits : bits + size])
    if mask.blocks != blocks:
        raise ValueError(f"{name}: mask keeps {mask.blocks} blocks, the record says {blocks}")
    kept = _cut(encoded.values, start, blocks * r * c, name).reshape(blocks, r, c)
    return Weight(name, BsrMatrix(mask, kept))


def _cut(values: Floats, start: int, count: int, name: str) -> Floats:
    if start < 0 or count < 0 or start + count > values.size:
        raise ValueError(f"{name}: values lie outside the blob of {values.size} floats")
    return values[start : start + count]


def _decode_instruction(
    record: tuple[int, ...], weights: tuple[Weight, ...], values: Floats, biases: list[Floats]
) -> Instruction:
    opcode, source, weight, bias, residual, *_ = record
    activation, p = _activation(*record[5:PARAMETERS]), record[PARAMETERS:]
    if opcode > 4 and activation != NONE:
        raise ValueError(f"opcode {opcode} takes no activation, got {activation.kind}")
    if opcode in (1, 2):
        if not 0 <= weight < len(weights):
            raise ValueError(f"weight {weight} does not exist")
        number = None
        if bias != -1:
            number = len(biases)
            biases.append(_cut(values, bias, weights[weight].shape.rows, "bias"))
        end = Epilogue(number, None if residual == -1 else residual, activation)
        if opcode == 2:
            return Linear(source, weight, end)
        pads = (p[4], p[5], p[6], p[7])
        return Conv(source, weight, (p[0], p[1]), (p[2], p[3]), pads, (p[8], p[9]), end)
    return _decode_simple(opcode, source, residual, activation, p)


def _decode_simple(
    opcode: int, source: int, residual: int, activation: Activation, p: tuple[int, ...]
) -> Instruction:
    kernel, stride, pads = (p[0], p[1]), (p[2], p[3]), (p[4], p[5], p[6], p[7])
    match opcode:
        case 3:
            return Add(source, residual, activation)
        case 4:
            return Activate(source, activation)
        case 5:
            return MaxPool(source, kernel, stride, pads)
        case 6:
            return AveragePool(source, kernel, stride, pads, bool(p[8]))
        case 7:
            return GlobalAveragePool(source)
        case 8:
            return Flatten(source)
        case 9:
            return Subsample(source, (p[0], p[1]), p[2], p[3])
        case _:
            raise ValueError(f"unknown opcode {opcode}")


def _activation(code: int, *numbers: int) -> Activation:
    if not 0 <= code < len(KINDS):
        raise ValueError(f"unknown activation {code}")
    if not all(0 <= bits < 1 << 32 for bits in numbers):
        raise ValueError(f"activation {KINDS[code]}: {numbers} are not the bits of float32 numbers")
    low, high = (float(np.uint32(bits).view(np.float32)) for bits in numbers)
    return Activation(KINDS[code], low, high)
