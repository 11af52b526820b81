"""Which constant of an exported graph holds the weight of which layer of the model.

The exporter keeps the name of a weight as long as it can (``layer1.0.conv1.weight``, also when
batch normalisation was folded into it); a weight it had to transpose loses the name and is then
found by its values.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from torch import nn

from pruneaug_cli.core import BlockMask, BsrMatrix, MatrixShape
from pruneaug_cli.errors import PlanError, UnsupportedError, VerificationError
from pruneaug_cli.export.ports import constant
from pruneaug_cli.kernels.program import Floats, Weight


def planned_weights(
    graph: ir.Graph, model: nn.Module, layers: Sequence[str], masks: Mapping[str, BlockMask]
) -> dict[ir.Value, Weight]:
    """Find the weight of every planned layer and pack it under its mask, if it has one.

    Args:
        graph: what the exporter made of ``model``.
        model: holds the weights the graph was made from.
        layers: names of the planned layers, dense ones too.
        masks: of the sparse layers, on their matrix (M, K).

    Raises:
        UnsupportedError: a layer's weight is not in the graph.
        PlanError: a mask does not fit its layer.
        VerificationError: the graph has weights where the mask says there are none.
    """
    matrices = dict(_matrices(graph))
    owners = _by_name(matrices, layers)
    owners |= _by_value(matrices, owners, model, layers)
    missing = [layer for layer in layers if layer not in owners.values()]
    if missing:
        raise UnsupportedError(
            f"layer {missing[0]!r}: its weight is not in the exported graph "
            f"({len(missing)} of {len(layers)} planned layers are missing)",
            hint="exclude the layer from the plan, or write its forward without reshaping weights",
        )
    return {
        value: Weight(layer, _packed(layer, matrices[value], masks.get(layer)))
        for value, layer in owners.items()
    }


def _matrices(graph: ir.Graph) -> Iterator[tuple[ir.Value, Floats]]:
    """Every constant that a product multiplies by, as a matrix (M, K)."""
    for node in graph:
        if node.domain or node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        value = node.inputs[1]
        array = constant(value)
        if value is None or array is None or array.dtype != np.float32 or array.ndim < 2:
            continue
        if node.op_type == "Conv":
            yield value, np.asarray(array.reshape(array.shape[0], -1), np.float32)
        elif array.ndim == 2:
            upright = node.attributes.get_int("transB", 0) != 0
            yield value, np.ascontiguousarray(array if upright else array.T, np.float32)


def _by_name(matrices: Mapping[ir.Value, Floats], layers: Sequence[str]) -> dict[ir.Value, str]:
    names = {f"{layer}.weight".removeprefix("."): layer for layer in layers}
    return {value: names[value.name] for value in matrices if value.name in names}


def _by_value(
    matrices: Mapping[ir.Value, Floats],
    found: Mapping[ir.Value, str],
    model: nn.Module,
    layers: Sequence[str],
) -> dict[ir.Value, str]:
    """Give constants without an owner to the layers without a constant, in order."""
    free = {value: matrix for value, matrix in matrices.items() if value not in found}
    owners: dict[ir.Value, str] = {}
    for layer in layers:
        if layer in found.values():
            continue
        wanted = _model_matrix(model, layer)
        for value, matrix in free.items():
            if value not in owners and np.array_equal(matrix, wanted):
                owners[value] = layer
                break
    return owners


def _model_matrix(model: nn.Module, layer: str) -> Floats:
    weight = model.get_parameter(f"{layer}.weight".removeprefix("."))
    return np.asarray(weight.detach().flatten(1).cpu().numpy(), np.float32)


def _packed(layer: str, matrix: Floats, mask: BlockMask | None) -> BsrMatrix | Floats:
    if mask is None:
        return matrix
    shape = MatrixShape(*matrix.shape)
    if mask.grid.matrix != shape:
        raise PlanError(
            f"layer {layer!r}: the mask is for a {mask.grid.matrix} matrix, not {shape}"
        )
    wrong = np.count_nonzero(matrix[~mask.elements()])
    if wrong:
        raise VerificationError(
            f"layer {layer!r}: {wrong} weights of removed blocks are not zero in the graph",
            hint="the model must hold the pruned weights when it is exported",
        )
    return BsrMatrix.pack(matrix, mask)
