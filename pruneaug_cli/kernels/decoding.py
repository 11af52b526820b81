"""Reads the integers of a region program back; :mod:`pruneaug_cli.kernels.encoding` writes them."""

import numpy as np

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.kernels.activation import KINDS, NONE, Activation
from pruneaug_cli.kernels.encoding import (
    HEADER,
    INPUT,
    INSTRUCTION,
    PARAMETERS,
    VERSION,
    WEIGHT,
    EncodedRegion,
)
from pruneaug_cli.kernels.program import (
    Activate,
    Add,
    AveragePool,
    Concat,
    Conv,
    Epilogue,
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

_LAST_ACTIVATED = 4  # opcodes up to here take an activation


def decode(encoded: EncodedRegion) -> RegionProgram:
    """Read what :func:`pruneaug_cli.kernels.encoding.encode` wrote.

    Raises:
        ValueError: another version, a record cut short, an offset outside its blob.
    """
    reader = _Reader(encoded.program)
    version, inputs, outputs, weights, instructions, operands = reader.take(HEADER)
    if version != VERSION:
        raise ValueError(
            f"program version {version} is not the supported {VERSION}: export the model again"
        )
    shapes = tuple(_decode_shape(reader.take(INPUT)) for _ in range(inputs))
    values, listed = reader.take(outputs), reader.take(operands)
    matrices = tuple(
        _decode_weight(index, reader.take(WEIGHT), encoded) for index in range(weights)
    )
    decoder = _InstructionDecoder(matrices, encoded.values, listed)
    decoded = tuple(decoder.decode(reader.take(INSTRUCTION)) for _ in range(instructions))
    reader.finish()
    return RegionProgram(shapes, decoded, values, matrices, tuple(decoder.biases))


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


class _InstructionDecoder:
    """Reads instructions in order and collects the vectors they refer to."""

    def __init__(
        self, weights: tuple[Weight, ...], values: Floats, operands: tuple[int, ...]
    ) -> None:
        self.biases: list[Floats] = []
        self._weights = weights
        self._values = values
        self._operands = operands
        self._read = 0  # operands, of the concats so far

    def decode(self, record: tuple[int, ...]) -> Instruction:
        opcode, source, _, bias, residual = record[:5]
        activation, p = _activation(*record[5:PARAMETERS]), record[PARAMETERS:]
        if opcode > _LAST_ACTIVATED and activation != NONE:
            raise ValueError(f"opcode {opcode} takes no activation, got {activation.kind}")
        match opcode:
            case 1 | 2:
                return self._product(record, activation)
            case 3:
                return Add(source, residual, activation)
            case 4:
                return Activate(source, activation)
            case 10:
                return self._concat(source, p)
            case 11:
                return self._layer_norm(source, bias, p)
            case _:
                return _decode_reshaping(opcode, source, p)

    def _product(self, record: tuple[int, ...], activation: Activation) -> Conv | Linear:
        opcode, source, weight, bias, residual = record[:5]
        if not 0 <= weight < len(self._weights):
            raise ValueError(f"weight {weight} does not exist")
        number = self._vector(bias, self._weights[weight].shape.rows)
        end = Epilogue(number, None if residual == -1 else residual, activation)
        if opcode == 2:
            return Linear(source, weight, end)
        p = record[PARAMETERS:]
        window = ((p[0], p[1]), (p[2], p[3]), (p[4], p[5], p[6], p[7]), (p[8], p[9]))
        return Conv(source, weight, *window, end, p[10])

    def _concat(self, source: int, p: tuple[int, ...]) -> Concat:
        start, count = p[:2]
        if not 0 <= start <= start + count <= len(self._operands):
            raise ValueError(f"operands {start} to {start + count} of {len(self._operands)}")
        if start != self._read:
            raise ValueError(f"its operands start at {start}, expected {self._read}")
        self._read += count
        sources = self._operands[start : start + count]
        if sources[:1] != (source,):
            raise ValueError(f"source {source} is not the first of its operands {sources}")
        return Concat(sources)

    def _layer_norm(self, source: int, bias: int, p: tuple[int, ...]) -> LayerNorm:
        features, scale = p[2], self._vector(p[0], p[2])
        if scale is None:
            raise ValueError("a normalisation without its scale")
        return LayerNorm(source, scale, self._vector(bias, features), _number(p[1]))

    def _vector(self, start: int, size: int) -> int | None:
        """The number of the bias at ``start``, or None when there is none."""
        if start == -1:
            return None
        self.biases.append(_cut(self._values, start, size, "bias"))
        return len(self.biases) - 1


def _decode_reshaping(opcode: int, source: int, p: tuple[int, ...]) -> Instruction:
    kernel, stride, pads = (p[0], p[1]), (p[2], p[3]), (p[4], p[5], p[6], p[7])
    match opcode:
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


def _activation(code: int, *bits: int) -> Activation:
    if not 0 <= code < len(KINDS):
        raise ValueError(f"unknown activation {code}")
    return Activation(KINDS[code], *(_number(number) for number in bits))


def _number(bits: int) -> float:
    if not 0 <= bits < 1 << 32:
        raise ValueError(f"{bits} is not the bits of a float32 number")
    return float(np.uint32(bits).view(np.float32))
