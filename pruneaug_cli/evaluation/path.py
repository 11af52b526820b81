"""One path of the layer database: a layer in one block shape, from evidence to its file."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pruneaug_cli.core import BlockGrid, BsrMatrix, FloatMatrix
from pruneaug_cli.criteria import (
    EvidenceSource,
    LayerEvidence,
    PruningMethod,
    loss_rise,
    output_error,
    prune_path,
)
from pruneaug_cli.evaluation.path_file import is_whole, read_record, read_weights, write_path


@dataclass(frozen=True, slots=True)
class PathJob:
    """One layer with one block shape, and where its file goes.

    Attributes:
        layer: its name.
        grid: the blocks.
        sparsities: rising.
        key: content address of the weights.
        curvature: digest of the curvature that the loss's harm is computed with; None: no such
            harm is asked for.
    """

    layer: str
    grid: BlockGrid
    sparsities: tuple[float, ...]
    key: str
    curvature: str | None = None

    @property
    def file(self) -> str:
        """``LAYER-BLOCK-ADDRESS.safetensors``."""
        plain = re.sub(r"[^\w.-]", "_", self.layer)
        return f"{plain}-{self.grid.block}-{self.key[:16]}.safetensors"


def is_computed(directory: Path, job: PathJob) -> bool:
    """Whether the file holds the weights undamaged, and every harm that is asked for."""
    path = directory / job.file
    if not is_whole(path, job.key, job.grid):
        return False
    return job.curvature is None or read_record(path).curvature == job.curvature


def compute_path(
    directory: Path,
    job: PathJob,
    weight: FloatMatrix,
    evidence: EvidenceSource,
    method: PruningMethod,
) -> None:
    """Write the file of a path. Weights that it already holds are not reconstructed again.

    Args:
        directory: the folder of the database.
        job: which path.
        weight: dense weights of the layer, shape (M, K).
        evidence: loaded here, and let go of here.
        method: which blocks go, and how the others are re-solved.

    Raises:
        ValueError: weights and evidence do not fit.
    """
    path, observed = directory / job.file, evidence.load()
    if is_whole(path, job.key, job.grid):
        record = read_record(path)
        packed = [
            read_weights(path, record, number, job.grid) for number in range(len(job.sparsities))
        ]
    else:
        packed = _reconstructed(job, weight, observed, method)
    write_path(
        path, job.key, packed, job.sparsities, _harms(weight, observed, packed), job.curvature
    )


def _reconstructed(
    job: PathJob, weight: FloatMatrix, evidence: LayerEvidence, method: PruningMethod
) -> list[BsrMatrix]:
    found = prune_path(weight, evidence, job.grid, job.sparsities, method)
    return [BsrMatrix.pack(np.asarray(one.weight, dtype=np.float32), one.mask) for one in found]


def _harms(
    weight: FloatMatrix, evidence: LayerEvidence, packed: list[BsrMatrix]
) -> dict[str, list[float]]:
    moment, curvature = evidence.second_moment, evidence.output_curvature
    weight = np.asarray(weight, dtype=moment.dtype)
    harms: dict[str, list[float]] = {"output": []}
    for one in packed:
        pruned = one.unpack()
        harms["output"].append(output_error(weight, pruned, moment))
        if curvature is not None:
            harms.setdefault("loss", []).append(loss_rise(weight, pruned, moment, curvature))
    return harms
