"""How large an instruction may be: what the native engine can index.

``native/src/reader.h``, ``layout.c`` and ``plan.c`` check the same numbers when a session is
created; a planner asks here first, so that what is too large stays outside a region instead of
failing then. What only shows in a whole region (more than 16 GiB of planes) is left to them.
"""

from collections.abc import Sequence
from dataclasses import astuple

from pruneaug_cli.kernels.program import (
    AveragePool,
    Conv,
    Instruction,
    MaxPool,
    Planes,
    Subsample,
    ValueShape,
    Weight,
)

MOST_SIZE = 1 << 24
"""Rows, columns, channels, height, width."""
MOST_WINDOW = 1 << 12
"""Kernel, stride, padding, dilation."""
MOST_ELEMENTS = 1 << 28
"""Numbers of one value, per sample."""
MOST_PHASES = 1 << 12
"""Phases a strided convolution splits its input into."""
MOST_POSITIONS = 1 << 30
"""Of one plane with its padding."""
MOST_FLOATS = (1 << 31) - (1 << 16)
"""Of a value with its padding: the engine's offsets are 32 bits wide."""
MOST_RECORDS = 1 << 14
"""Instructions of one region, and operands of all its concats."""
MOST_PORTS = 64
"""Inputs, and outputs, of one region: MAX_PORTS in ``native/src/ort_op.c``."""
MOST_AXES = 8
"""Of a tensor of rows: MAX_RANK in ``native/src/ort_op.c``."""

_LINE = 16  # floats a plane is rounded up to, and kept apart by


def why_too_large(
    op: Instruction, sources: Sequence[ValueShape], result: ValueShape, weight: Weight | None = None
) -> str | None:
    """Why the engine cannot run one instruction; None when it can.

    Args:
        op: the instruction.
        sources: shapes of the values it reads.
        result: shape of the value it makes.
        weight: of a product.
    """
    for shape in (*sources, result):
        if reason := _why_value(shape):
            return reason
    if weight is not None:
        if max(weight.shape.rows, weight.shape.cols) > MOST_SIZE:
            return f"a {weight.shape} matrix exceeds {MOST_SIZE} rows or columns"
        if weight.mask is not None and max(astuple(weight.mask.grid.block)) > MOST_SIZE:
            return f"blocks of {weight.mask.grid.block} exceed {MOST_SIZE} rows or columns"
    if isinstance(op, Subsample) and max(op.stride) > MOST_WINDOW:
        return f"its steps end at {MOST_WINDOW}"
    if isinstance(op, Conv | MaxPool | AveragePool):
        return _why_window(op, sources[0], result)
    return None


def _why_value(shape: ValueShape) -> str | None:
    sizes, size = astuple(shape), 1
    for axis in sizes:
        size *= axis
    if max(sizes) > MOST_SIZE:
        return f"{shape}: an axis exceeds {MOST_SIZE}"
    return f"{shape}: more than {MOST_ELEMENTS} numbers" if size > MOST_ELEMENTS else None


def _why_window(
    op: Conv | MaxPool | AveragePool, source: ValueShape, result: ValueShape
) -> str | None:
    dilation = op.dilation if isinstance(op, Conv) else (1, 1)
    if max(*op.kernel, *op.stride, *op.pads, *dilation) > MOST_WINDOW:
        return f"kernel, stride, padding and dilation end at {MOST_WINDOW}"
    if not isinstance(op, Conv):
        only_pads = any(pad >= op.kernel[axis % 2] for axis, pad in enumerate(op.pads))
        return "its padding is as large as its kernel" if only_pads else None
    if not isinstance(source, Planes) or not isinstance(result, Planes):
        return None
    phases = min(op.kernel[0], op.stride[0]) * min(op.kernel[1], op.stride[1])
    if phases > MOST_PHASES:
        return f"its stride has more than {MOST_PHASES} phases"
    reach = [d * k for d, k in zip(dilation, op.kernel, strict=True)]
    planes = phases * source.channels
    tall = max(result.height, -(-source.height // op.stride[0])) + 3 * reach[0]
    wide = max(result.width, -(-source.width // op.stride[1])) + 3 * reach[1]
    if tall * wide > MOST_POSITIONS:
        return f"{source}: one exceeds {MOST_POSITIONS} numbers with the padding of its kernel"
    if max(planes, result.channels) * (tall * wide + 2 * _LINE) > MOST_FLOATS:
        return f"{source}: more than {MOST_FLOATS} numbers with the padding of its kernel"
    return None
