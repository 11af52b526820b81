"""Reads exported models back, trusting nothing: every number is checked before it is used."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs
from onnx import helper, numpy_helper

from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.export.planner import OutsideNode
from pruneaug_cli.export.schema import DOMAIN, MAX_REGIONS, METADATA_PREFIX, SCHEMA_VERSION
from pruneaug_cli.kernels.decoding import decode
from pruneaug_cli.kernels.encoding import EncodedRegion
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.program import RegionProgram

_OPS = {f"Region{index}" for index in range(MAX_REGIONS)}
_HINT = "write the file anew with: pruneaug export RUN"


@dataclass(frozen=True, slots=True, eq=False)
class RegionRecord:
    """One region node: its name, what it computes, the layers whose weights it holds."""

    node: str
    program: RegionProgram
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SparseModel:
    """What a file says about itself, checked.

    Attributes:
        regions: in graph order.
        metadata: the facts under ``pruneaug.``, without the prefix.
        outside: the nodes that stayed standard ops, and why.
        layers: every planned layer, the dense ones too.
    """

    regions: tuple[RegionRecord, ...]
    metadata: Mapping[str, str]
    outside: tuple[OutsideNode, ...]
    layers: tuple[str, ...]


def read_model(path: Path) -> SparseModel:
    """Read an exported block-sparse model.

    Raises:
        ModelFileError: not ONNX, not ours, of another version, or damaged; the message says where.
    """
    model = _load(path)
    metadata = _metadata(model)
    version = metadata.get("schema_version")
    if version != SCHEMA_VERSION:
        found = "a model without block-sparse regions" if version is None else f"version {version}"
        expected = f"a block-sparse model of version {SCHEMA_VERSION}"
        raise ModelFileError(f"{path}: {found}, expected {expected}", hint=_HINT)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    functions = {function.name for function in model.functions if function.domain == DOMAIN}
    regions = []
    for node in model.graph.node:
        if node.domain == DOMAIN:
            try:
                regions.append(_read_region(node, initializers, functions))
            except ValueError as error:
                raise ModelFileError(f"{path}: node {node.name!r}: {error}", hint=_HINT) from error
    try:
        outside = tuple(OutsideNode(**node) for node in _strings(metadata, "outside", dict))
        layers = tuple(_strings(metadata, "layers", str))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: metadata: {error}", hint=_HINT) from error
    return SparseModel(tuple(regions), metadata, outside, layers)


def count_sparsity(path: Path) -> dict[str, float]:
    """Fraction of blocks removed of every planned layer, counted from the bits in the file.

    A layer that is stored dense, inside a region or outside, counts 0.

    Raises:
        ModelFileError: as :func:`read_model`.
    """
    model = read_model(path)
    kept: Counter[str] = Counter()
    blocks: Counter[str] = Counter()
    for region in model.regions:
        for weight in region.program.weights:
            if weight.mask is not None:
                kept[weight.name] += weight.mask.blocks
                blocks[weight.name] += weight.mask.grid.size
    return {
        layer: 1.0 - kept[layer] / blocks[layer] if blocks[layer] else 0.0 for layer in model.layers
    }


def _load(path: Path) -> onnx.ModelProto:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelFileError(f"{path}: not an ONNX file, or cut short: {error}") from error
    if not model.graph.node:
        raise ModelFileError(f"{path}: expected an ONNX model, found no nodes in it")
    return model


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    # str(): protobuf hands text that is not UTF-8 over as bytes
    pairs = [(str(entry.key), str(entry.value)) for entry in model.metadata_props]
    return {
        key.removeprefix(METADATA_PREFIX): value
        for key, value in pairs
        if key.startswith(METADATA_PREFIX)
    }


def _strings(metadata: Mapping[str, str], key: str, kind: type) -> list[Any]:
    """A JSON list of ``kind`` from the metadata."""
    if key not in metadata:
        raise ValueError(f"{key!r} is missing")
    found = json.loads(metadata[key])
    if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
        raise ValueError(f"{key!r} should be a list of {kind.__name__}, got {metadata[key]!r:.60}")
    return found


def _read_region(
    node: onnx.NodeProto, initializers: Mapping[str, onnx.TensorProto], functions: set[str]
) -> RegionRecord:
    if node.op_type not in _OPS:
        raise ValueError(
            f"unknown op {node.op_type!r}, expected Region0 to Region{MAX_REGIONS - 1}"
        )
    if node.op_type not in functions:
        raise ValueError(f"there is no function {node.op_type!r} for runtimes without our library")
    if len(node.input) < 3:
        raise ValueError(f"expected values, masks and inputs, got {len(node.input)} inputs")
    encoded = EncodedRegion(
        _attribute(node, "program", onnx.AttributeProto.INTS),
        _blob(node.input[0], initializers, onnx.TensorProto.FLOAT),
        _blob(node.input[1], initializers, onnx.TensorProto.UINT8),
    )
    names = _attribute(node, "layers", onnx.AttributeProto.STRINGS)
    layers = tuple(name.decode("utf-8", "replace") for name in names)
    program = decode(encoded)
    value_shapes(program)
    _require_count("inputs", len(node.input) - 2, len(program.inputs))
    _require_count("outputs", len(node.output), len(program.outputs))
    _require_count("layer names", len(layers), len(program.weights))
    weights = [replace(w, name=name) for w, name in zip(program.weights, layers, strict=True)]
    return RegionRecord(str(node.name), replace(program, weights=tuple(weights)), layers)


def _attribute(
    node: onnx.NodeProto, name: str, kind: onnx.AttributeProto.AttributeType
) -> tuple[Any, ...]:
    found = [attribute for attribute in node.attribute if attribute.name == name]
    if len(found) != 1 or found[0].type != kind:
        wanted = onnx.AttributeProto.AttributeType.Name(kind)
        raise ValueError(f"expected one attribute {name!r} of type {wanted}")
    return tuple(helper.get_attribute_value(found[0]))


def _blob(
    name: str, initializers: Mapping[str, onnx.TensorProto], kind: onnx.TensorProto.DataType
) -> npt.NDArray[Any]:
    tensor = initializers.get(name)
    if tensor is None:
        raise ValueError(f"input {name!r} is not an initializer")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError(f"initializer {name!r} lies in another file, expected it in this one")
    if tensor.data_type != kind or len(tensor.dims) != 1:
        wanted = onnx.TensorProto.DataType.Name(kind)
        raise ValueError(
            f"initializer {name!r} should be a vector of {wanted}, "
            f"got element type {tensor.data_type} of shape {tuple(tensor.dims)}"
        )
    return numpy_helper.to_array(tensor)


def _require_count(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"the node has {found} {what}, its program {expected}")
