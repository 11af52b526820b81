"""The file of one path: one layer, one block shape, every sparsity; pruned weights and harms.

safetensors. Per sparsity number i (rising): ``mask.i`` bits of the grid (uint8), ``values.i`` the
kept blocks (blocks, r, c) float32. The one metadata entry ``path`` is a JSON object:
``schema_version``, ``key`` (content address), ``matrix``, ``block``, lists of ``sparsities`` and
``digests`` (SHA-256 of mask and values, checked whenever one is read), ``harms``, one list per
measure (``output``; ``loss`` where it was asked for), and ``curvature``, the digest of what
``loss`` was computed with, or null.

Schema history (``schema_version``):
    1: first version; ``harms`` was the list for ``output``.
    2: harms by measure; ``curvature``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix
from pruneaug_cli.errors import RunError
from pruneaug_cli.files import digest_array, digest_text, write_bytes

SCHEMA_VERSION = 2
_AGAIN = "delete the file and run the same command again: only this piece is computed anew"


@dataclass(frozen=True, slots=True)
class PathRecord:
    """What a path file says about itself; ``harms`` has one value per sparsity and measure."""

    key: str
    block: BlockShape
    sparsities: tuple[float, ...]
    harms: Mapping[str, tuple[float, ...]]
    digests: tuple[str, ...]
    curvature: str | None = None


def write_path(
    path: Path,
    key: str,
    found: Sequence[BsrMatrix],
    sparsities: Sequence[float],
    harms: Mapping[str, Sequence[float]],
    curvature: str | None = None,
) -> None:
    """Write the weights and harms of one path, atomically; same input, same bytes."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    digests = []
    for number, packed in enumerate(found):
        mask = packed.mask.pack_bits()
        arrays[f"mask.{number}"], arrays[f"values.{number}"] = mask, packed.values
        digests.append(digest_text(digest_array(mask), digest_array(packed.values)))
    record = {
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "matrix": str(found[0].grid.matrix),
        "block": str(found[0].grid.block),
        "sparsities": list(sparsities),
        "harms": {measure: list(values) for measure, values in harms.items()},
        "digests": digests,
        "curvature": curvature,
    }
    # one entry: safetensors writes several in an order that changes from run to run
    metadata = {"path": json.dumps(record, sort_keys=True, allow_nan=False)}
    write_bytes(path, bytes(save(arrays, metadata)))


def read_record(path: Path) -> PathRecord:
    """Read the header of a path file.

    Raises:
        RunError: missing, damaged, or of another version.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: damaged path file: {error}", hint=_AGAIN) from error
    try:
        found = json.loads(metadata["path"])
        version = found["schema_version"]
        if version != SCHEMA_VERSION:
            raise RunError(
                f"{path}: path schema {version!r} is not the supported {SCHEMA_VERSION}",
                hint=_AGAIN,
            )
        return PathRecord(
            found["key"],
            BlockShape.parse(found["block"]),
            tuple(found["sparsities"]),
            {measure: tuple(values) for measure, values in found["harms"].items()},
            tuple(found["digests"]),
            found["curvature"],
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: damaged path file: {error!r}", hint=_AGAIN) from error


def read_weights(path: Path, record: PathRecord, number: int, grid: BlockGrid) -> BsrMatrix:
    """Read the weights of one sparsity.

    Raises:
        RunError: damaged: the content is not what was written.
    """
    try:
        with safe_open(path, "numpy") as file:
            mask, values = file.get_tensor(f"mask.{number}"), file.get_tensor(f"values.{number}")
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: damaged path file: {error}", hint=_AGAIN) from error
    if digest_text(digest_array(mask), digest_array(values)) != record.digests[number]:
        raise RunError(
            f"{path}: damaged path file: weights at sparsity {record.sparsities[number]} do not "
            "match their digest",
            hint=_AGAIN,
        )
    return BsrMatrix(BlockMask.unpack_bits(grid, mask), values)


def is_whole(path: Path, key: str, grid: BlockGrid) -> bool:
    """Whether a path file exists, belongs to this key, and is undamaged throughout."""
    if not path.exists():
        return False
    try:
        record = read_record(path)
        if record.key != key:
            return False
        for number in range(len(record.sparsities)):
            read_weights(path, record, number, grid)
    except RunError:
        return False
    return True
