"""Chooses which parts of an exported graph become regions, and says why the rest does not.

A region is a connected, convex set of nodes our kernels serve, as large as it gets, that holds at
least one sparse layer. Convex: no path leaves the region and comes back, so
it can run as one node. All its inputs are planes, or all are rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pruneaug_cli.export.atoms import Atom, fuse, renumber
from pruneaug_cli.export.partition import Edge, convex_clusters
from pruneaug_cli.export.recognise import recognise
from pruneaug_cli.export.schema import MAX_REGIONS
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.program import Floats, RegionProgram, Weight

NO_SPARSE_LAYER = "no sparse layer in its part of the graph"
TOO_MANY = f"a file holds at most {MAX_REGIONS} regions, and larger ones were taken"

Cluster = tuple[Atom, ...]


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
    taken = sorted(wanted, key=_size, reverse=True)[:MAX_REGIONS]
    reasons = dict(recognised.reasons)
    for cluster in clusters:
        if cluster not in taken:
            reason = TOO_MANY if cluster in wanted else NO_SPARSE_LAYER
            reasons |= {node: reason for atom in cluster for node in atom.nodes}
    outside = [
        OutsideNode(node.op_type, node.name or "", reasons[node])
        for node in nodes
        if node in reasons
    ]
    regions = [_assemble(cluster) for cluster in wanted if cluster in taken]
    return RegionPlan(tuple(regions), tuple(outside))


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
    for index, vertex in enumerate(vertices):
        for value in vertex.reads:
            if value in makers:
                successors[makers[value]].add(index)
                if _sees_alike(vertices[makers[value]].atom, vertex.atom, value):
                    joins.append((makers[value], index))

    def one_kind(members: frozenset[int]) -> bool:
        return len(_input_kinds([vertices[index] for index in members])) <= 1

    found = []
    for members in convex_clusters(successors, joins, one_kind):
        atoms = [vertices[index].atom for index in sorted(members)]
        cluster = tuple(atom for atom in atoms if atom is not None)
        if cluster:
            found.append(cluster)
    return found


def _sees_alike(maker: Atom | None, reader: Atom | None, value: ir.Value) -> bool:
    """Whether a tensor is the same planes, or the same rows, at both its ends."""
    if maker is None or reader is None:
        return False
    ports = zip(reader.inputs, reader.ports, strict=True)
    return all(port == maker.result for read, port in ports if read is value)


def _input_kinds(vertices: Sequence[_Vertex]) -> set[type]:
    atoms = [vertex.atom for vertex in vertices if vertex.atom is not None]
    made = {atom.output for atom in atoms}
    return {
        type(port.shape)
        for atom in atoms
        for value, port in zip(atom.inputs, atom.ports, strict=True)
        if value not in made
    }


def _is_wanted(cluster: Cluster, *, dense_regions: bool) -> bool:
    weights = [atom.weight for atom in cluster if atom.weight is not None]
    return any(dense_regions or weight.mask is not None for weight in weights)


def _size(cluster: Cluster) -> int:
    """Elements of the weight matrices of a cluster."""
    return sum(atom.weight.shape.size for atom in cluster if atom.weight is not None)


def _assemble(cluster: Cluster) -> PlannedRegion:
    """Number the values of a cluster and write its program."""
    made = {atom.output: atom for atom in cluster}
    inputs = {
        value: port.shape
        for atom in cluster
        for value, port in zip(atom.inputs, atom.ports, strict=True)
        if value not in made
    }
    numbers = {value: number for number, value in enumerate([*inputs, *made])}
    weights = list(dict.fromkeys(atom.weight for atom in cluster if atom.weight is not None))
    biases: list[Floats] = []
    instructions = []
    for atom in cluster:
        weight = 0 if atom.weight is None else weights.index(atom.weight)
        bias = None if atom.bias is None else len(biases)
        biases += [] if atom.bias is None else [atom.bias]
        values = [numbers[value] for value in atom.inputs]
        instructions.append(renumber(atom.instruction, values, weight, bias))
    nodes = tuple(node for atom in cluster for node in atom.nodes)
    outputs = tuple(value for value in made if _leaves(value, set(nodes)))
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
