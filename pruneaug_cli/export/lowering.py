r"""A region program as a model-local ONNX function in standard ops.

The body rebuilds every weight from the two blobs and runs the same sub-graph. A block-sparse
weight of M x K with blocks r x c on a grid of G blocks is made dense by::

    bits   = masks[offset : offset + ceil(G / 8)] // (128, 64, .. 1) mod 2, the first G of them
    slots  = bits * cumsum(bits)                    0 for a removed block, else 1, 2, ..
    tiles  = concat(zeros(1, r, c), values[offset : offset + blocks * r * c])[slots]
    weight = tiles as (rows, cols, r, c) -> transposed to (rows, r, cols, c) -> cut to (M, K)

Every step has constant inputs only, so a runtime that folds constants is left with the dense
graph: the function costs it load time and nothing per inference. Two details of ONNX Runtime
shape it: Div and Mod have no kernels for uint8 (so: int64), and NonZero is never folded.
"""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np
import onnx
from onnx import helper

from pruneaug_cli.core import BlockGrid
from pruneaug_cli.export.schema import DOMAIN, ONNX_OPSET
from pruneaug_cli.kernels.activation import Activation, ActivationKind
from pruneaug_cli.kernels.encoding import (
    HEADER,
    INPUT,
    INSTRUCTION,
    PARAMETERS,
    WEIGHT,
    EncodedRegion,
)
from pruneaug_cli.kernels.inference import value_shapes
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
    Planes,
    RegionProgram,
    Subsample,
    Weight,
)

_PLAIN: Mapping[ActivationKind, str] = {
    "relu": "Relu", "gelu": "Gelu", "sigmoid": "Sigmoid", "tanh": "Tanh", "hard_swish": "HardSwish",
}  # fmt: skip
VALUES, MASKS = "values", "masks"


def lower(program: RegionProgram, encoded: EncodedRegion, op_type: str) -> onnx.FunctionProto:
    """Write a program as a function ``pruneaug::op_type (values, masks, x0, ..) -> (v.., ..)``.

    Args:
        program: what the region computes.
        encoded: the same program as the node carries it; the body cuts its blobs by offset.
        op_type: name of the function, ``Region<i>``.

    Raises:
        ValueError: a value leaves the region twice (function outputs are unique by name).
    """
    if len(set(program.outputs)) != len(program.outputs):
        raise ValueError(f"a value leaves a region once, got outputs {program.outputs}")
    body = _Body(program, encoded)
    for number, instruction in enumerate(program.instructions):
        body.add(number, instruction)
    return helper.make_function(
        DOMAIN,
        op_type,
        [VALUES, MASKS, *(f"x{index}" for index in range(len(program.inputs)))],
        [body.value(number) for number in program.outputs],
        body.nodes,
        [helper.make_opsetid("", ONNX_OPSET)],
        attributes=["program", "layers"],
        doc_string="The region in standard ops; every weight folds to a dense constant.",
    )


class _Body:
    """The nodes of one function, in order; makes each weight when it is first needed."""

    def __init__(self, program: RegionProgram, encoded: EncodedRegion) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._program = program
        start = HEADER + INPUT * len(program.inputs) + len(program.outputs) + encoded.program[5]
        self._weights = _split(encoded.program, start, WEIGHT, len(program.weights))
        start += WEIGHT * len(program.weights)
        self._records = _split(encoded.program, start, INSTRUCTION, len(program.instructions))
        self._shapes = value_shapes(program)
        self._matrices: dict[int, str] = {}
        self._constants: dict[tuple[int, ...], str] = {}

    def value(self, number: int) -> str:
        """Name of a value of the program."""
        inputs = len(self._program.inputs)
        return f"x{number}" if number < inputs else f"v{number - inputs}"

    def add(self, number: int, op: Instruction) -> None:
        """Append the nodes of instruction ``number``."""
        result = f"v{number}"
        match op:
            case Conv() | Linear():
                self._product(number, op, result)
            case Add():
                total = self.node("Add", self.value(op.left), self.value(op.right))
                self._activate(total, op.activation, result)
            case Activate():
                self._activate(self.value(op.source), op.activation, result)
            case Concat():
                parts = [self.value(source) for source in op.sources]
                axis = 1 if isinstance(self._shapes[op.sources[0]], Planes) else -1
                self.node("Concat", *parts, output=result, axis=axis)
            case LayerNorm():
                self._layer_norm(number, op, result)
            case _:
                self._reshape(op, result)

    def _reshape(
        self, op: MaxPool | AveragePool | GlobalAveragePool | Flatten | Subsample, result: str
    ) -> None:
        match op:
            case MaxPool():
                self.node("MaxPool", self.value(op.source), output=result, **_window(op))
            case AveragePool():
                include = int(op.count_include_pad)
                source = self.value(op.source)
                self.node(
                    "AveragePool", source, output=result, count_include_pad=include, **_window(op)
                )
            case GlobalAveragePool():
                # the form that ONNX Runtime keeps in its blocked layout, unlike ReduceMean
                mean = self.node("GlobalAveragePool", self.value(op.source))
                self.node("Flatten", mean, output=result, axis=1)
            case Flatten():
                self.node("Flatten", self.value(op.source), output=result, axis=1)
            case Subsample():
                self._subsample(op, result)
            case _:
                assert_never(op)

    def node(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append one node of a standard op and return the name of its output."""
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def ints(self, numbers: Sequence[int]) -> str:
        """A constant vector of int64, made once.

        A tensor, not ``value_ints``: ONNX Runtime 1.17 takes those in a function for a tensor
        without axes and refuses it as the pads of Pad.
        """
        key = tuple(numbers)
        if key not in self._constants:
            tensor = helper.make_tensor("", onnx.TensorProto.INT64, [len(key)], key)
            self._constants[key] = self.node("Constant", value=tensor)
        return self._constants[key]

    def _product(self, number: int, op: Conv | Linear, result: str) -> None:
        weight = self._program.weights[op.weight]
        bias = self._bias(number, op.epilogue, weight)
        if isinstance(op, Conv):
            shape = [weight.shape.rows, -1, *op.kernel]
            inputs = [self.value(op.source), self._reshaped(self._matrix(op.weight), shape)]
            rest = {"dilations": op.dilation, "group": op.groups, **_window(op)}
            product = self.node("Conv", *inputs, *bias, **rest)
        else:
            columns = self.node("Transpose", self._matrix(op.weight), perm=[1, 0])
            product = self.node("MatMul", self.value(op.source), columns)
            product = self.node("Add", product, *bias) if bias else product
        if op.epilogue.residual is not None:
            product = self.node("Add", product, self.value(op.epilogue.residual))
        self._activate(product, op.epilogue.activation, result)

    def _layer_norm(self, number: int, op: LayerNorm, result: str) -> None:
        record, (features,) = self._records[number], self._program.biases[op.scale].shape
        scale = self._cut(VALUES, record[PARAMETERS], features)
        bias = [] if op.bias is None else [self._cut(VALUES, record[3], features)]
        inputs = [self.value(op.source), scale, *bias]
        self.node("LayerNormalization", *inputs, output=result, axis=-1, epsilon=op.epsilon)

    def _bias(self, number: int, epilogue: Epilogue, weight: Weight) -> list[str]:
        if epilogue.bias is None:
            return []
        return [self._cut(VALUES, self._records[number][3], weight.shape.rows)]

    def _activate(self, source: str, activation: Activation, result: str) -> None:
        match activation.kind:
            case "none":
                self.node("Identity", source, output=result)
            case "clip":
                self.node("Clip", source, *self._bounds(activation), output=result)
            case "silu":
                self.node("Mul", source, self.node("Sigmoid", source), output=result)
            case "hard_sigmoid":
                slope, offset = activation.low, activation.high
                self.node("HardSigmoid", source, output=result, alpha=slope, beta=offset)
            case "leaky_relu":
                self.node("LeakyRelu", source, output=result, alpha=activation.low)
            case "gelu_tanh":
                self.node("Gelu", source, output=result, approximate="tanh")
            case "relu" | "gelu" | "sigmoid" | "tanh" | "hard_swish":
                self.node(_PLAIN[activation.kind], source, output=result)
            case _:
                assert_never(activation.kind)

    def _bounds(self, activation: Activation) -> list[str]:
        return [
            self.node("Constant", value_float=bound) if np.isfinite(bound) else ""
            for bound in (activation.low, activation.high)
        ]

    def _subsample(self, op: Subsample, result: str) -> None:
        large = 2**31 - 1
        bounds = [self.ints(numbers) for numbers in ([0, 0], [large, large], [2, 3], op.stride)]
        sampled = self.node("Slice", self.value(op.source), *bounds)
        pads = self.ints([0, op.before, 0, 0, 0, op.after, 0, 0])
        self.node("Pad", sampled, pads, output=result, mode="constant")

    def _matrix(self, index: int) -> str:
        """Name of weight ``index`` as a dense matrix (M, K)."""
        if index not in self._matrices:
            self._matrices[index] = self._densify(index)
        return self._matrices[index]

    def _densify(self, index: int) -> str:
        rows, cols, r, c, blocks, values, bits = self._weights[index]
        mask = self._program.weights[index].mask
        if mask is None:
            return self._reshaped(self._cut(VALUES, values, rows * cols), [rows, cols])
        grid = mask.grid
        kept = self._cut(VALUES, values, blocks * r * c)
        zeros = self.node("ConstantOfShape", self.ints([r * c]))
        table = self._reshaped(self.node("Concat", zeros, kept, axis=0), [blocks + 1, r, c])
        tiles = self.node("Gather", table, self._slots(grid, bits), axis=0)
        return self._untile(tiles, grid)

    def _slots(self, grid: BlockGrid, offset: int) -> str:
        """For each block, row-major, its place in the table of kept blocks; 0 when removed."""
        count = -(-grid.size // 8)
        packed = self.node("Cast", self._cut(MASKS, offset, count), to=onnx.TensorProto.INT64)
        column = self._reshaped(packed, [count, 1])
        shifted = self.node("Div", column, self.ints([128, 64, 32, 16, 8, 4, 2, 1]))
        padded = self._reshaped(self.node("Mod", shifted, self.ints([2])), [8 * count])
        bounds = [self.ints(numbers) for numbers in ([0], [grid.size], [0])]
        bits = self.node("Slice", padded, *bounds)
        axis = self.node("Constant", value_int=0)
        return self.node("Mul", bits, self.node("CumSum", bits, axis))

    def _untile(self, tiles: str, grid: BlockGrid) -> str:
        """Turn (G, r, c) tiles into the matrix (M, K), the overhang cut off."""
        (rows, cols), block, matrix = grid.shape, grid.block, grid.matrix
        split = self._reshaped(tiles, [rows, cols, block.rows, block.cols])
        nested = self.node("Transpose", split, perm=[0, 2, 1, 3])
        full = self._reshaped(nested, [rows * block.rows, cols * block.cols])
        if (matrix.rows, matrix.cols) == (rows * block.rows, cols * block.cols):
            return full
        ends = self.ints([matrix.rows, matrix.cols])
        return self.node("Slice", full, self.ints([0, 0]), ends)

    def _cut(self, blob: str, start: int, count: int) -> str:
        bounds = [self.ints(numbers) for numbers in ([start], [start + count], [0])]
        return self.node("Slice", blob, *bounds)

    def _reshaped(self, source: str, shape: Sequence[int]) -> str:
        return self.node("Reshape", source, self.ints(shape))


def _window(op: Conv | MaxPool | AveragePool) -> dict[str, Any]:
    return {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.pads}


def _split(integers: Sequence[int], start: int, size: int, count: int) -> list[Sequence[int]]:
    return [integers[at : at + size] for at in range(start, start + size * count, size)]
