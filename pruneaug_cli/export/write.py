"""Writes exported models: the dense one, and the one with block-sparse regions."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes import common
from torch import nn

from pruneaug_cli import __version__
from pruneaug_cli.core import BlockMask
from pruneaug_cli.errors import InputError
from pruneaug_cli.export.from_torch import TracedModel, trace_to_onnx
from pruneaug_cli.export.matching import planned_weights
from pruneaug_cli.export.planner import OutsideNode, PlannedRegion, plan_regions
from pruneaug_cli.export.region import region_parts
from pruneaug_cli.export.schema import (
    DOMAIN,
    DOMAIN_VERSION,
    METADATA_PREFIX,
    RESERVED_KEYS,
    SCHEMA_VERSION,
)
from pruneaug_cli.files import digest_bytes, write_bytes


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A model file that was written.

    Attributes:
        digest: SHA-256 of the file's bytes.
        dynamic_batch: whether the first size of the inputs is free.
        regions: number of region nodes; 0 in a dense file.
        outside: the nodes that stayed standard ops, and why; empty for a dense file.
        library: the operator library beside the model; None for a dense file.
        target_library: the one for the machine it is exported for, which may be the same file.
    """

    path: Path
    size_bytes: int
    digest: str
    dynamic_batch: bool
    regions: int = 0
    outside: tuple[OutsideNode, ...] = ()
    library: Path | None = None
    target_library: Path | None = None


@dataclass(frozen=True, slots=True)
class TargetLibrary:
    """An operator library for a kind of machine that may be another than this one.

    Attributes:
        target: name of the kind of machine.
        path: the library.
    """

    target: str
    path: Path


def export_dense(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], path: Path
) -> ExportedFile:
    """Write ``model`` as torch exports it, standard ops only: the peer to measure against.

    Raises:
        UnsupportedError: torch cannot export the model.
        InputError: the file cannot be written.
    """
    _require_folder(path)
    traced = trace_to_onnx(model, args, kwargs)
    return _write_model(path, traced, ir.to_proto(traced.model))


def export_sparse(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    path: Path,
    *,
    masks: Mapping[str, BlockMask],
    layers: Sequence[str],
    library: Path,
    metadata: Mapping[str, str],
    dense_regions: bool = False,
    shipped: TargetLibrary | None = None,
) -> ExportedFile:
    """Write ``model`` with its planned layers in region nodes, and the library beside it.

    Args:
        model: already holds the pruned weights.
        args: example inputs of ``model``, by position.
        kwargs: example inputs by name.
        path: the file to write.
        masks: the blocks that stay, for each sparse layer.
        layers: every planned layer, the dense ones too: inside a region they run on our kernels.
        library: the operator library that runs the regions here; copied, its name kept.
        metadata: the caller's own facts (plan, recipe digest, platform), kept in the file.
        dense_regions: make regions of dense layers also where no sparse one is near.
        shipped: the library for the machine the model is for, copied too; None: ``library``.

    Raises:
        UnsupportedError: torch cannot export the model, or a planned layer is not in its graph.
        PlanError: a mask does not fit its layer.
        VerificationError: the model has weights where a mask says there are none.
        InputError: the file cannot be written, or the library cannot be read.
    """
    _require_own_keys(metadata)
    _require_folder(path)
    shipped = shipped or TargetLibrary("native", library)
    binaries = {each.name: _read_library(each) for each in (library, shipped.path)}
    traced = trace_to_onnx(model, args, kwargs)
    weights = planned_weights(traced.model.graph, model, layers, masks)
    plan = plan_regions(traced.model.graph, weights, dense_regions=dense_regions)
    _insert_regions(traced.model, plan.regions)
    proto = ir.to_proto(traced.model)
    facts = {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "layers": json.dumps(list(layers)),
        "outside": json.dumps([asdict(node) for node in plan.outside], sort_keys=True),
        "library": library.name,
        "library_digest": digest_bytes(binaries[library.name]),
        "target": shipped.target,
        "target_library": shipped.path.name,
        "target_library_digest": digest_bytes(binaries[shipped.path.name]),
    }
    _add_metadata(proto, {**metadata, **facts})
    for name, binary in binaries.items():
        _write(path.parent / name, binary)
    file = _write_model(path, traced, proto)
    return replace(
        file, regions=len(plan.regions), outside=plan.outside, library=path.parent / library.name,
        target_library=path.parent / shipped.path.name,
    )  # fmt: skip


def _insert_regions(model: ir.Model, regions: Sequence[PlannedRegion]) -> None:
    """Put one node in the place of each region's nodes."""
    graph = model.graph
    now: dict[ir.Value, ir.Value] = {}  # a region may read what an earlier one has replaced
    functions = []
    for index, region in enumerate(regions):
        parts = region_parts(region.program, index, [now.get(v, v) for v in region.inputs])
        for value in parts.initializers:
            graph.register_initializer(value)
        last = region.nodes[-1]
        ir.convenience.replace_nodes_and_values(
            graph, last, region.nodes, [parts.node], region.outputs, parts.node.outputs
        )
        now |= dict(zip(region.outputs, parts.node.outputs, strict=True))
        functions.append(parts.function)
    graph.sort()
    common.RemoveUnusedNodesPass()(model)
    model.functions.update({function.identifier(): function for function in functions})
    if functions:
        model.opset_imports[DOMAIN] = DOMAIN_VERSION


def _add_metadata(proto: onnx.ModelProto, facts: Mapping[str, str]) -> None:
    for key, value in sorted(facts.items()):
        entry = proto.metadata_props.add()
        entry.key, entry.value = METADATA_PREFIX + key, value


def _require_own_keys(metadata: Mapping[str, str]) -> None:
    clash = sorted(set(metadata) & set(RESERVED_KEYS))
    if clash:
        raise ValueError(f"metadata key {clash[0]!r} is written by export itself")


def _require_folder(path: Path) -> None:
    """Find out before the work of minutes whether its result can be kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(path, error) from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written: a folder, or in a folder without permission")


def _read_library(library: Path) -> bytes:
    try:
        return library.read_bytes()
    except OSError as error:
        raise InputError(f"{library}: cannot be read as an operator library: {error}") from error


def _write_model(path: Path, traced: TracedModel, proto: onnx.ModelProto) -> ExportedFile:
    content = proto.SerializeToString(deterministic=True)
    _write(path, content)
    return ExportedFile(path, len(content), digest_bytes(content), traced.dynamic_batch)


def _write(path: Path, content: bytes) -> None:
    try:
        write_bytes(path, content)
    except OSError as error:
        raise _not_writable(path, error) from error


def _not_writable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written: {error.strerror}", hint="choose another place with --out"
    )
