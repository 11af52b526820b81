"""Chooses which parts of an exported graph become regions, and says why the rest does not.

A region is a connected, convex set of nodes our kernels serve, as large as it gets, that holds at
least one sparse layer. Convex: no path leaves the region and comes back, so
it can run as one node. What stands at a region's border and is better off with its neighbours
outside is left to them (:mod:`~pruneaug_cli.export.border`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from pruneaug_cli.export.atoms import Atom, Port, fuse, renumber
from pruneaug_cli.export.border import Cluster, trim
from pruneaug_cli.export.partition import Edge, convex_clusters
from pruneaug_cli.export.recognise import recognise
from pruneaug_cli.export.schema import MAX_REGIONS
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.limits import MOST_PORTS, MOST_RECORDS
from pruneaug_cli.kernels.program import Concat, Floats, RegionProgram, ValueShape, Weight

NO_SPARSE_LAYER = "no sparse layer in its part of the graph"
TOO_MANY_PORTS = f"its part of the graph has more than {MOST_PORTS} inputs or outputs"
TOO_LONG = f"its part of the graph has more than {MOST_RECORDS} instructions or values to join"
TOO_MANY = f"a file holds at most {MAX_REGIONS} regions, and larger ones were taken"


@dataclass(frozen=True, slots=True)
class OutsideNode:
    """A node that stays a standard op: its type, its name, and why."""

    op: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class PlannedRegion:
    """A region to be: its program, the nodes it replaces, the tensors it reads and makes."""

    program: RegionProgram
    nodes: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RegionPlan:
    """All regions of a graph, in order, and everything outside them."""

    regions: tuple[PlannedRegion, ...]
    outside: tuple[OutsideNode, ...]


def plan_regions(
    graph: ir.Graph, weights: Mapping[ir.Value, Weight], *, dense_regions: bool = False
) -> RegionPlan:
    """Partition a graph, its nodes in topological order.

    Args:
        graph: standard ops, shapes inferred; it is not changed.
        weights: the planned layers, by the constant that holds their weight.
        dense_regions: also make regions that hold dense layers only.
    """
    nodes = list(graph)
    recognised = recognise(nodes, weights)
    clusters = _clusters(_vertices(nodes, fuse(recognised.atoms)))
    wanted = [cluster for cluster in clusters if _is_wanted(cluster, dense_regions=dense_regions)]
    inside = {atom.output for cluster in wanted for atom in cluster}
    trimmed = [trim(cluster, inside) for cluster in wanted]
    beyond = {kept: _why_beyond(kept) for kept, _ in trimmed}
    fitting = [kept for kept, _ in trimmed if beyond[kept] is None]
    taken = sorted(fitting, key=_size, reverse=True)[:MAX_REGIONS]
    reasons = dict(recognised.reasons)
    for cluster in clusters:
        reasons |= {} if cluster in wanted else _for_all(cluster, NO_SPARSE_LAYER)
    for kept, left in trimmed:
        if kept not in taken:
            reasons |= _for_all(kept, beyond[kept] or TOO_MANY)
        for atom, reason in left.items():
            reasons |= _for_all((atom,), reason)
    outside = [
        OutsideNode(node.op_type, node.name or "", reasons[node])
        for node in nodes
        if node in reasons
    ]
    regions = [_assemble(kept) for kept, _ in trimmed if kept in taken]
    return RegionPlan(tuple(regions), tuple(outside))


def _is_wanted(cluster: Cluster, *, dense_regions: bool) -> bool:
    weights = [atom.weight for atom in cluster if atom.weight is not None]
    return any(dense_regions or weight.mask is not None for weight in weights)


def _why_beyond(cluster: Cluster) -> str | None:
    """Why a cluster is no region for the engine; None when it is one."""
    inputs, outputs = _ports_of(cluster)
    if max(len(inputs), len(outputs)) > MOST_PORTS:
        return TOO_MANY_PORTS
    joined = sum(len(atom.inputs) for atom in cluster if isinstance(atom.instruction, Concat))
    return TOO_LONG if max(len(cluster), joined) > MOST_RECORDS else None


def _for_all(cluster: Cluster, reason: str) -> dict[ir.Node, str]:
    return {node: reason for atom in cluster for node in atom.nodes}


@dataclass(frozen=True, slots=True, eq=False)
class _Vertex:
    """A node outside, or an atom: what it reads and makes."""

    reads: tuple[ir.Value, ...]
    makes: tuple[ir.Value, ...]
    atom: Atom | None = None


def _vertices(nodes: Sequence[ir.Node], atoms: Sequence[Atom]) -> list[_Vertex]:
    """Vertices in topological order: an atom stands where its last node stood."""
    last = {atom.nodes[-1]: atom for atom in atoms}
    inner = {node for atom in atoms for node in atom.nodes}
    vertices = []
    for node in nodes:
        atom = last.get(node)
        if atom is not None:
            vertices.append(_Vertex(atom.inputs, (atom.output,), atom))
        elif node not in inner:
            vertices.append(_Vertex(tuple(_reads(node)), tuple(node.outputs)))
    return vertices


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """Inputs of a node and of the nodes of its sub-graphs."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                yield from _reads(inner)


def _clusters(vertices: Sequence[_Vertex]) -> list[Cluster]:
    """Convex clusters of atoms."""
    makers = {value: index for index, vertex in enumerate(vertices) for value in vertex.makes}
    successors: list[set[int]] = [set() for _ in vertices]
    joins: list[Edge] = []
    readers: dict[tuple[ir.Value, Port], list[int]] = {}
    for index, vertex in enumerate(vertices):
        for value, port in _ports(vertex):
            readers.setdefault((value, port), []).append(index)
        for value in vertex.reads:
            if value in makers:
                successors[makers[value]].add(index)
                if _sees_alike(vertices[makers[value]].atom, vertex.atom, value):
                    joins.append((makers[value], index))

    joins += [pair for sharing in readers.values() for pair in pairwise(sharing)]
    found = []
    for members in convex_clusters(successors, joins):
        atoms = [vertices[index].atom for index in sorted(members)]
        cluster = tuple(atom for atom in atoms if atom is not None)
        if cluster:
            found.append(cluster)
    return found


def _ports(vertex: _Vertex) -> Iterator[tuple[ir.Value, Port]]:
    """What an atom reads that is no constant, and how."""
    if vertex.atom is not None:
        yield from zip(vertex.atom.inputs, vertex.atom.ports, strict=True)


def _sees_alike(maker: Atom | None, reader: Atom | None, value: ir.Value) -> bool:
    """Whether a tensor is the same planes, or the same rows, at both its ends."""
    if maker is None or reader is None:
        return False
    ports = zip(reader.inputs, reader.ports, strict=True)
    return all(port == maker.result for read, port in ports if read is value)


def _size(cluster: Cluster) -> int:
    """Elements of the weight matrices of a cluster."""
    return sum(atom.weight.shape.size for atom in cluster if atom.weight is not None)


def _ports_of(cluster: Cluster) -> tuple[dict[ir.Value, ValueShape], tuple[ir.Value, ...]]:
    """The tensors a cluster reads from outside, and those of its own that are read there."""
    made, nodes = {atom.output for atom in cluster}, {n for atom in cluster for n in atom.nodes}
    inputs = {
        value: port.shape
        for atom in cluster
        for value, port in zip(atom.inputs, atom.ports, strict=True)
        if value not in made
    }
    return inputs, tuple(atom.output for atom in cluster if _leaves(atom.output, nodes))


def _assemble(cluster: Cluster) -> PlannedRegion:
    """Number the values of a cluster and write its program."""
    inputs, outputs = _ports_of(cluster)
    made = [atom.output for atom in cluster]
    numbers = {value: number for number, value in enumerate([*inputs, *made])}
    weights = list(dict.fromkeys(atom.weight for atom in cluster if atom.weight is not None))
    biases: list[Floats] = []
    instructions = []
    for atom in cluster:
        weight = 0 if atom.weight is None else weights.index(atom.weight)
        values = [numbers[value] for value in atom.inputs]
        instructions.append(renumber(atom.instruction, values, weight, len(biases)))
        biases += atom.biases
    nodes = tuple(node for atom in cluster for node in atom.nodes)
    program = RegionProgram(
        tuple(inputs.values()),
        tuple(instructions),
        tuple(numbers[value] for value in outputs),
        tuple(weights),
        tuple(biases),
    )
    value_shapes(program)
    return PlannedRegion(program, nodes, tuple(inputs), outputs)


def _leaves(value: ir.Value, nodes: set[ir.Node]) -> bool:
    return value.is_graph_output() or any(user not in nodes for user in value.consumers())
