"""Nodes that compute no product: pooling, means, and what only moves numbers about."""

import onnx_ir as ir

from pruneaug_cli.export.atoms import Atom
from pruneaug_cli.export.nodes import (
    PADDING,
    UNKNOWN_SIZES,
    Reason,
    input_of,
    make_atom,
    optional_input,
    padding_is_written_out,
    pads,
    pair,
)
from pruneaug_cli.export.ports import constant, integers, planes, rows
from pruneaug_cli.kernels.program import (
    AveragePool,
    Flatten,
    GlobalAveragePool,
    MaxPool,
    Planes,
    Subsample,
)


def pool(node: ir.Node) -> Atom | Reason:
    """MaxPool and AveragePool over two axes."""
    if len(node.attributes.get_ints("kernel_shape", ())) != 2:
        return "not a 2-D pool"
    if not padding_is_written_out(node):
        return PADDING
    if pair(node, "dilations") != (1, 1):
        return "pools with dilation"
    if len(node.outputs) > 1:
        return "also returns where the maxima are"
    window = (pair(node, "kernel_shape"), pair(node, "strides"), pads(node))
    include = node.attributes.get_int("count_include_pad", 0)
    maximum = node.op_type == "MaxPool"
    op = MaxPool(0, *window) if maximum else AveragePool(0, *window, include != 0)
    return make_atom(node, op, (input_of(node, 0),), planes)


def reduce_mean(node: ir.Node) -> Atom | Reason:
    """ReduceMean over height and width."""
    axes = integers(optional_input(node, 1))
    if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        return "takes a mean over other axes than height and width"
    return _mean(node, keep=node.attributes.get_int("keepdims", 1) != 0)


def global_average_pool(node: ir.Node) -> Atom | Reason:
    """GlobalAveragePool, which keeps four axes."""
    return _mean(node, keep=True)


def _mean(node: ir.Node, *, keep: bool) -> Atom | Reason:
    source = input_of(node, 0)
    port = planes(source)
    if port is None or not isinstance(port.shape, Planes):
        return UNKNOWN_SIZES
    if not keep:
        return make_atom(node, GlobalAveragePool(0), (source,), planes, rows)
    whole = (port.shape.height, port.shape.width)
    return make_atom(node, AveragePool(0, whole, (1, 1)), (source,), planes)


def flatten(node: ir.Node) -> Atom | Reason:
    """Flatten from the first axis."""
    if node.attributes.get_int("axis", 1) != 1:
        return "flattens from another axis than the first"
    return make_atom(node, Flatten(0), (input_of(node, 0),), planes, rows)


def reshape(node: ir.Node) -> Atom | Reason:
    """Reshape where it flattens planes."""
    if constant(input_of(node, 1)) is None:
        return "its target shape is computed"
    source = input_of(node, 0)
    if planes(source) is None or rows(node.outputs[0]) is None:
        return "it does not flatten planes"
    return make_atom(node, Flatten(0), (source,), planes, rows)


def take_every(node: ir.Node) -> Atom | Reason:
    """Slice where it takes every n-th row and column."""
    source = input_of(node, 0)
    port, bounds = planes(source), [integers(value) for value in node.inputs[1:]]
    if port is None or not isinstance(port.shape, Planes) or len(bounds) < 4:
        return "not every n-th row and column of planes"
    lengths = {2: port.shape.height, 3: port.shape.width}
    starts, ends, axes, steps = (bound or () for bound in bounds)
    stride = {2: 1, 3: 1}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % 4 not in lengths or start or end < lengths[axis % 4] or step < 1:
            return "not every n-th row and column of planes"
        stride[axis % 4] = step
    return make_atom(node, Subsample(0, (stride[2], stride[3])), (source,), planes)


def pad_channels(node: ir.Node) -> Atom | Reason:
    """Pad where it adds channels of zeros."""
    ends, fill = integers(input_of(node, 1)), constant(optional_input(node, 2))
    plain = node.attributes.get_string("mode", "constant") == "constant"
    channels_only = ends is not None and len(ends) == 8 and not any(_but(ends, (1, 5)))
    if ends is None or not plain or not channels_only or (fill is not None and fill.any()):
        return "pads other axes than channels, or with other values than zero"
    if optional_input(node, 3) is not None:
        return "pads axes given apart"
    return make_atom(node, Subsample(0, (1, 1), ends[1], ends[5]), (input_of(node, 0),), planes)


def _but(numbers: tuple[int, ...], places: tuple[int, ...]) -> list[int]:
    return [number for place, number in enumerate(numbers) if place not in places]
