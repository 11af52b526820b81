"""What a region leaves to ONNX Runtime at its border.

An instruction at the border costs little to leave: nothing has to come back. It is left where the
runtime fuses it with the node outside that makes what it reads: Conv and its activation or sum, a
product's bias and Gelu, a sum and the LayerNormalization behind it. To leave a first instruction
keeps a region convex.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

import onnx_ir as ir

from pruneaug_cli.export.atoms import Atom
from pruneaug_cli.kernels.program import Activate, Add, Instruction, LayerNorm

FUSED_OUTSIDE = "ONNX Runtime fuses it with the node before it, which is outside"

Cluster = tuple[Atom, ...]

_FUSES: Mapping[type[Instruction], frozenset[str]] = {
    Activate: frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"}),
    Add: frozenset({"Conv"}),
    LayerNorm: frozenset({"Add"}),
}
"""For an instruction, the operators before it that ONNX Runtime fuses it with."""


def trim(cluster: Cluster, inside: AbstractSet[ir.Value]) -> tuple[Cluster, Mapping[Atom, str]]:
    """Split a region into what stays in it, and what is left outside and why.

    Args:
        cluster: the atoms of the region, in graph order.
        inside: what the atoms of all regions make.
    """
    kept, left = list(cluster), dict[Atom, str]()
    while found := next(_leaving(kept, inside - {atom.output for atom in left}), None):
        kept.remove(found)
        left[found] = FUSED_OUTSIDE
    return tuple(kept), left


def _leaving(kept: list[Atom], inside: AbstractSet[ir.Value]) -> Iterator[Atom]:
    made = {atom.output for atom in kept}
    for atom in kept:
        partners = _FUSES.get(type(atom.instruction), frozenset())
        makers = [value.producer() for value in atom.inputs if value not in inside]
        if made.isdisjoint(atom.inputs) and any(
            maker is not None and maker.op_type in partners for maker in makers
        ):
            yield atom
