"""How tensors of an ONNX graph look to a region: as planes, as rows, or as constants."""

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pruneaug_cli.export.atoms import Port
from pruneaug_cli.kernels.program import Floats, Planes, Rows

Sizes = tuple[int | str, ...]


def sizes(value: ir.Value) -> Sizes | None:
    """Sizes of a tensor, dynamic ones by name; None when one has neither number nor name."""
    if value.shape is None:
        return None
    known = [size if isinstance(size, int) else size.value for size in value.shape]
    return tuple(size for size in known if size is not None) if None not in known else None


def planes(value: ir.Value) -> Port | None:
    """A float tensor (N, C, H, W) with C, H and W fixed; else None."""
    found = _float_sizes(value)
    if found is None or len(found) != 4:
        return None
    batch, channels, height, width = found
    if isinstance(channels, int) and isinstance(height, int) and isinstance(width, int):
        return Port((batch,), Planes(channels, height, width))
    return None


def rows(value: ir.Value) -> Port | None:
    """A float tensor (.., F) of at least two axes with F fixed; else None."""
    found = _float_sizes(value)
    if found is None or len(found) < 2 or not isinstance(found[-1], int):
        return None
    return Port(found[:-1], Rows(found[-1]))


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of a constant of the graph; None for anything computed or fed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def integers(value: ir.Value | None) -> tuple[int, ...] | None:
    """A constant of whole numbers as a tuple; else None."""
    array = constant(value)
    if array is None or array.dtype.kind != "i":
        return None
    return tuple(int(number) for number in array.reshape(-1))


def channel_vector(value: ir.Value | None, port: Port) -> Floats | None:
    """A float constant that adds one number per channel (or feature) to ``port``; else None."""
    array = constant(value)
    match port.shape:
        case Planes(channels):
            size, shapes = channels, [(channels, 1, 1), (1, channels, 1, 1)]
        case Rows(features):
            size, shapes = features, [(1,) * axes + (features,) for axes in range(4)]
    if array is None or array.dtype != np.float32 or array.shape not in shapes:
        return None
    return np.ascontiguousarray(array.reshape(size), np.float32)


def _float_sizes(value: ir.Value) -> Sizes | None:
    return sizes(value) if value.dtype == ir.DataType.FLOAT else None
