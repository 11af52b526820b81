"""The layer database: pruned weights and harm of every option of every layer, on disk.

One file per path (layer and block shape; see :mod:`pruneaug_cli.evaluation.path_file`), named by
its content address: the digest of weights, evidence, settings, block and sparsities. Whatever was
finished before a kill is found again; a layer that changes is computed anew, alone. ``index.json``
says what belongs to the present request::

    {"schema_version": 1, "digest": …, "layers": {NAME: {"matrix": "64x576",
        "paths": {"8x1": {"file": …, "key": …, "harms": {"0.5": 0.024, …}}}}}}

Schema history (``schema_version`` of the index):
    1: first version.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, LayerChoice, MatrixShape
from pruneaug_cli.errors import PlanError, RunError
from pruneaug_cli.evaluation.path_file import read_record, read_weights
from pruneaug_cli.files import JsonObject, digest_text, read_json, write_json

SCHEMA_VERSION = 1
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
    """Where the weights of one layer and one block shape are, and how harmful each sparsity is."""

    file: str
    key: str
    harms: dict[float, float]

    def to_json(self) -> JsonObject:
        """As it stands in the index."""
        harms = {repr(sparsity): harm for sparsity, harm in self.harms.items()}
        return {"file": self.file, "key": self.key, "harms": harms}


class LayerDatabase:
    """Reads options from a folder; weights are loaded when asked for, the recent ones kept.

    Args:
        directory: the folder.
        layers: matrix and paths of every layer.
    """

    def __init__(
        self,
        directory: Path,
        layers: dict[str, tuple[MatrixShape, dict[BlockShape, PathAddress]]],
    ) -> None:
        self._directory, self._layers = directory, layers
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
            for sparsity in address.harms
        )

    def harm(self, layer: str, choice: LayerChoice) -> float:
        """Normalised output error of the layer under this choice; 0 for dense.

        Raises:
            PlanError: no such layer, or no such option.
        """
        matrix_and_paths = self._find(layer)
        if choice.is_dense:
            return 0.0
        return self._address(layer, matrix_and_paths[1], choice).harms[choice.sparsity]

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
        document = {"schema_version": SCHEMA_VERSION, "digest": self.digest, "layers": layers}
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
        if address is None or choice.sparsity not in address.harms:
            known = ", ".join(map(str, paths)) or "none"
            raise PlanError(
                f"layer {layer!r} has no option '{choice}' in the database {self._directory}",
                hint=f"blocks of this layer: {known}; build the database for the plan's choices",
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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: malformed database index: {error!r}") from error
    return LayerDatabase(directory, layers)


def _read_layer(layer: dict[str, Any]) -> tuple[MatrixShape, dict[BlockShape, PathAddress]]:
    found = _MATRIX.fullmatch(layer["matrix"])
    if found is None:
        raise ValueError(f"bad matrix {layer['matrix']!r}")
    paths = {}
    for block, path in layer["paths"].items():
        harms = {float(sparsity): float(harm) for sparsity, harm in path["harms"].items()}
        ordered = dict(sorted(harms.items()))
        paths[BlockShape.parse(block)] = PathAddress(str(path["file"]), str(path["key"]), ordered)
    return MatrixShape(int(found[1]), int(found[2])), paths
