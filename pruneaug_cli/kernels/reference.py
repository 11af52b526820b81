"""The yardstick: region programs in NumPy, slow, short and obviously right.

Sums run in float64, so the result is the exact one rounded once per instruction.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt
from scipy.special import erf, expit

from pruneaug_cli.core import BlockShape, Geometry
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.kernels.activation import NONE, Activation, ActivationKind
from pruneaug_cli.kernels.backend import check_inputs
from pruneaug_cli.kernels.inference import value_shapes
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
    Pads,
    Pair,
    RegionProgram,
    Subsample,
)

_Array = npt.NDArray[np.floating[Any]]


class ReferenceBackend:
    """Runs a region instruction by instruction; every value is kept."""

    name = "reference"

    def why_unavailable(self) -> str | None:
        """NumPy is always there."""
        return None

    def why_unsupported(self, geometry: Geometry, block: BlockShape) -> str | None:  # noqa: ARG002 - it serves everything
        """Every geometry and block is served."""
        return None

    def run(self, program: RegionProgram, inputs: Sequence[Floats]) -> list[Floats]:
        """See :meth:`Backend.run`."""
        check_inputs(program, inputs)
        value_shapes(program)
        values = list(inputs)
        for instruction in program.instructions:
            values.append(_compute(program, instruction, values).astype(np.float32))
        return [values[number] for number in program.outputs]

    def fingerprint(self) -> dict[str, str]:
        """NumPy's version stands for all of it."""
        return {
            "library": "numpy",
            "version": np.__version__,
            "compiler": "",
            "isa": "",
            "digest": "",
        }

    def operator_library(self, target: str | None = None) -> Path:  # noqa: ARG002 - for none
        """There is none."""
        raise UnsupportedError(
            "the reference back end has no ONNX Runtime operators", hint="use the back end 'native'"
        )

    def runs_here(self, library: Path) -> bool:  # noqa: ARG002 - it makes none
        """It has no library."""
        return False


def _compute(program: RegionProgram, op: Instruction, values: list[Floats]) -> _Array:
    match op:
        case Conv():
            weight = program.weights[op.weight].dense().astype(np.float64)
            return _finish(program, op.epilogue, _convolve(op, weight, values[op.source]), values)
        case Linear():
            weight = program.weights[op.weight].dense().astype(np.float64)
            return _finish(program, op.epilogue, values[op.source] @ weight.T, values)
        case Add():
            return _activate(values[op.left] + values[op.right], op.activation)
        case Activate():
            return _activate(values[op.source], op.activation)
        case MaxPool() | AveragePool() | GlobalAveragePool():
            return _pool(op, values[op.source])
        case Flatten():
            source = values[op.source]
            return source.reshape(source.shape[0], -1)
        case Subsample():
            taken = values[op.source][:, :, :: op.stride[0], :: op.stride[1]]
            return np.pad(taken, ((0, 0), (op.before, op.after), (0, 0), (0, 0)))
        case Concat():
            return np.concatenate([values[source] for source in op.sources], axis=1)
        case LayerNorm():
            bias = 0.0 if op.bias is None else program.biases[op.bias]
            return _normalise(values[op.source], op.epsilon) * program.biases[op.scale] + bias
        case _:
            assert_never(op)


def _convolve(op: Conv, weight: _Array, source: Floats) -> _Array:
    patches = _windows(source, op.kernel, op.stride, op.pads, op.dilation)
    samples, _, height, width, _, _ = patches.shape
    columns = patches.transpose(0, 1, 4, 5, 2, 3).reshape(
        samples, op.groups, weight.shape[1], height * width
    )
    product: _Array = weight.reshape(op.groups, -1, weight.shape[1]) @ columns
    return product.reshape(samples, -1, height, width)


def _normalise(rows: Floats, epsilon: float) -> _Array:
    centred: _Array = rows.astype(np.float64) - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    deviation: _Array = np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)
    return np.asarray(centred / deviation)


def _pool(op: MaxPool | AveragePool | GlobalAveragePool, source: Floats) -> _Array:
    result: _Array
    if isinstance(op, GlobalAveragePool):
        result = source.mean(axis=(2, 3), dtype=np.float64)
    elif isinstance(op, MaxPool):
        windows = _windows(source, op.kernel, op.stride, op.pads, fill=-np.inf)
        result = windows.max(axis=(4, 5))
    else:
        counted = np.ones_like(source)  # real positions of every window
        inside = _windows(counted, op.kernel, op.stride, op.pads, fill=op.count_include_pad)
        total = _windows(source, op.kernel, op.stride, op.pads).sum(axis=(4, 5))
        result = total / inside.sum(axis=(4, 5))
    return result


def _windows(
    source: Floats,
    kernel: Pair,
    stride: Pair,
    pads: Pads,
    dilation: Pair = (1, 1),
    fill: float = 0.0,
) -> _Array:
    """Every window, float64, shape (S, C, output rows, output columns, kh, kw)."""
    top, left, bottom, right = pads
    padded = np.pad(
        source.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)),
        constant_values=fill,
    )  # fmt: skip
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _finish(
    program: RegionProgram, epilogue: Epilogue, product: _Array, values: list[Floats]
) -> _Array:
    result = product
    if epilogue.bias is not None:
        bias = program.biases[epilogue.bias]
        result = result + bias.reshape(-1, *[1] * (product.ndim - 2))
    if epilogue.residual is not None:
        result = result + values[epilogue.residual]
    return _activate(result, epilogue.activation)


def _activate(values: _Array, activation: Activation) -> _Array:
    if activation == NONE:
        return values
    x, a, b = values.astype(np.float64), activation.low, activation.high
    with np.errstate(all="ignore"):  # infinities make NaN as they do in ONNX Runtime
        match activation.kind:
            case "clip":
                return np.clip(x, a, b)
            case "hard_sigmoid":
                return np.clip(a * x + b, 0, 1)
            case "leaky_relu":
                return np.where(x < 0, a * x, x)
            case kind:
                return _FORMULAS[kind](x)


def _gelu_tanh(x: _Array) -> _Array:
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return np.asarray(x / 2 * (1 + np.tanh(inner)))


_FORMULAS: Mapping[ActivationKind, Callable[[_Array], _Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x / 2 * (1 + erf(x / np.sqrt(2))),
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: x * expit(x),
    "sigmoid": expit,
    "tanh": np.tanh,
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
}
