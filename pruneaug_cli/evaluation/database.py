"""The layer database: pruned weights and harm of every option of every layer, on disk.

One file per path (layer and block shape; see :mod:`pruneaug_cli.evaluation.path_file`), named by
its content address: the digest of weights, evidence, settings, block and sparsities. Whatever was
finished before a kill is found again; a layer that changes is computed anew, alone. ``index.json``
says what belongs to the present request::

    {"schema_version": 2, "digest": …, "harm": "output", "layers": {NAME: {"matrix": "64x576",
        "paths": {"8x1": {"file": …, "key": …, "harms": {"output": {"0.5": 0.024, …}}}}}}}

``harm`` is the measure that was asked for; the others that are known stand beside it.

Schema history (``schema_version`` of the index):
    1: first version; ``harms`` were those of ``output``.
    2: harms by measure, ``harm``.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, LayerChoice, MatrixShape
from pruneaug_cli.criteria import HarmMeasure
from pruneaug_cli.errors import PlanError, RunError
from pruneaug_cli.evaluation.path_file import read_record, read_weights
from pruneaug_cli.files import JsonObject, digest_text, read_json, write_json

SCHEMA_VERSION = 2
_CACHE_BYTES = 256 * 2**20
_MATRIX = re.compile(r"([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True, slots=True, eq=False)
class DatabaseEntry:
    """One option of one layer: its mask, its weights (M, K) float32, and its harm."""

    mask: BlockMask
    weight: npt.NDArray[np.float32]
    harm: float


@dataclass(frozen=True, slots=True)
class PathAddress:
    """Where the weights of one layer and one block shape are, and how harmful each sparsity is.

    ``harms`` by measure, then by sparsity.
    """

    file: str
    key: str
    harms: dict[str, dict[float, float]]

    @property
    def sparsities(self) -> tuple[float, ...]:
        """Of the options, rising."""
        return tuple(self.harms["output"])

    def to_json(self) -> JsonObject:
        """As it stands in the index."""
        harms = {
            measure: {repr(sparsity): harm for sparsity, harm in values.items()}
            for measure, values in self.harms.items()
        }
        return {"file": self.file, "key": self.key, "harms": harms}


class LayerDatabase:
    """Reads options from a folder; weights are loaded when asked for, the recent ones kept.

    Args:
        directory: the folder.
        layers: matrix and paths of every layer.
        measure: of harm, when nobody says.
    """

    def __init__(
        self,
        directory: Path,
        layers: dict[str, tuple[MatrixShape, dict[BlockShape, PathAddress]]],
        measure: HarmMeasure = "output",
    ) -> None:
        self._directory, self._layers, self.measure = directory, layers, measure
        self._cache: OrderedDict[tuple[str, LayerChoice], BsrMatrix] = OrderedDict()
        self._cached_bytes = 0

    @property
    def digest(self) -> str:
        """Content address of all paths together."""
        return digest_text(
            *(
                f"{name} {block} {address.key}"
                for name, (_, paths) in sorted(self._layers.items())
                for block, address in sorted(paths.items())
            )
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that have options."""
        return tuple(self._layers)

    def choices(self, layer: str) -> tuple[LayerChoice, ...]:
        """Options of a layer besides dense, by block and rising sparsity.

        Raises:
            PlanError: no such layer.
        """
        return tuple(
            LayerChoice(block, sparsity)
            for block, address in self._find(layer)[1].items()
            for sparsity in address.sparsities
        )

    def harm(self, layer: str, choice: LayerChoice, measure: HarmMeasure | None = None) -> float:
        """Harm of this choice for the layer; 0 for dense.

        Args:
            layer: its name.
            choice: one of its options.
            measure: ``output`` or ``loss`` (``criteria/harm.py``); None: the database's own.

        Raises:
            PlanError: no such layer, or no such option.
            RunError: the measure was not computed.
        """
        matrix_and_paths = self._find(layer)
        if choice.is_dense:
            return 0.0
        measure = measure or self.measure
        harms = self._address(layer, matrix_and_paths[1], choice).harms
        if measure not in harms:
            raise RunError(
                f"{self._directory}: holds no harm by {measure!r} of layer {layer!r}",
                hint=f"search with: --set search.harm={measure}",
            )
        return harms[measure][choice.sparsity]

    def entry(self, layer: str, choice: LayerChoice) -> DatabaseEntry:
        """Mask, weights and harm of one option.

        Raises:
            PlanError: no such layer or option, or dense: the database holds no dense weights.
            RunError: the file is missing or damaged.
        """
        packed = self._load(layer, choice)
        return DatabaseEntry(packed.mask, packed.unpack(), self.harm(layer, choice))

    def write_index(self) -> None:
        """Write ``index.json``, atomically."""
        layers = {
            name: {
                "matrix": str(matrix),
                "paths": {str(block): address.to_json() for block, address in paths.items()},
            }
            for name, (matrix, paths) in self._layers.items()
        }
        document = {
            "schema_version": SCHEMA_VERSION, "digest": self.digest, "harm": self.measure,
            "layers": layers,
        }  # fmt: skip
        write_json(self._directory / "index.json", document)

    def _load(self, layer: str, choice: LayerChoice) -> BsrMatrix:
        known = self._cache.get((layer, choice))
        if known is not None:
            self._cache.move_to_end((layer, choice))
            return known
        matrix, paths = self._find(layer)
        address = self._address(layer, paths, choice)
        path = self._directory / address.file
        record = read_record(path)
        if record.key != address.key:
            raise RunError(f"{path}: belongs to other weights or evidence than the index says")
        number = record.sparsities.index(choice.sparsity)
        packed = read_weights(path, record, number, BlockGrid(matrix, record.block))
        self._cache[layer, choice] = packed
        self._cached_bytes += packed.values.nbytes
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].values.nbytes
        return packed

    def _find(self, layer: str) -> tuple[MatrixShape, dict[BlockShape, PathAddress]]:
        if layer not in self._layers:
            raise PlanError(f"layer {layer!r} is not in the database {self._directory}")
        return self._layers[layer]

    def _address(
        self, layer: str, paths: dict[BlockShape, PathAddress], choice: LayerChoice
    ) -> PathAddress:
        address = paths.get(choice.block) if choice.block is not None else None
        if address is None or choice.sparsity not in address.sparsities:
            known = ", ".join(map(str, paths)) or "none"
            raise PlanError(
                f"layer {layer!r} has no option '{choice}' in the database {self._directory}",
                hint=f"blocks of this layer: {known}; `pruneaug search` builds more",
            )
        return address


def open_database(directory: Path) -> LayerDatabase:
    """Open a database that was built before.

    Raises:
        RunError: there is none, or its index is damaged or of another version.
    """
    path = directory / "index.json"
    document = read_json(
        path, kind="database index", version=SCHEMA_VERSION, error=RunError,
        hint="run the search again: it builds the database, and reuses what fits",
    )  # fmt: skip
    try:
        layers = {name: _read_layer(layer) for name, layer in document["layers"].items()}
        return LayerDatabase(directory, layers, _read_measure(document["harm"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: malformed database index: {error!r}") from error


def _read_measure(found: object) -> HarmMeasure:
    if found == "output" or found == "loss":
        return found
    raise ValueError(f"bad measure of harm {found!r}")


def _read_layer(layer: dict[str, Any]) -> tuple[MatrixShape, dict[BlockShape, PathAddress]]:
    found = _MATRIX.fullmatch(layer["matrix"])
    if found is None:
        raise ValueError(f"bad matrix {layer['matrix']!r}")
    paths = {}
    for block, path in layer["paths"].items():
        harms = {
            str(measure): dict(sorted((float(s), float(harm)) for s, harm in values.items()))
            for measure, values in path["harms"].items()
        }
        paths[BlockShape.parse(block)] = PathAddress(str(path["file"]), str(path["key"]), harms)
    return MatrixShape(int(found[1]), int(found[2])), paths
