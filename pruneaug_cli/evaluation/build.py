"""Building the layer database: every path computed once, in parallel when asked."""

import multiprocessing
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from pruneaug_cli.core import BlockGrid, BlockShape, FloatMatrix, LayerChoice, MatrixShape
from pruneaug_cli.criteria import LayerEvidence, PruningMethod, Reconstruction, prune_path
from pruneaug_cli.criteria.worker import use_one_thread
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.evaluation.database import LayerDatabase, PathAddress
from pruneaug_cli.evaluation.path_file import SCHEMA_VERSION, is_whole, read_record, write_path
from pruneaug_cli.files import digest_array, digest_text
from pruneaug_cli.progress import Progress, Step, silent

_STAGE = "reconstructing layers"
_DEATHS = 10  # pools that may break in a row, no path finished between them


_Arguments = tuple[FloatMatrix, LayerEvidence, BlockGrid, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class _Path:
    """One layer with one block shape, and where its file goes."""

    layer: str
    grid: BlockGrid
    sparsities: tuple[float, ...]
    key: str

    @property
    def file(self) -> str:
        """``LAYER-BLOCK-ADDRESS.safetensors``."""
        plain = re.sub(r"[^\w.-]", "_", self.layer)
        return f"{plain}-{self.grid.block}-{self.key[:16]}.safetensors"


def build_database(
    weights: Mapping[str, FloatMatrix],
    evidence: Mapping[str, LayerEvidence],
    candidates: Mapping[str, Sequence[LayerChoice]],
    directory: Path,
    *,
    method: PruningMethod | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> LayerDatabase:
    """Reconstruct every candidate of every layer; what the folder already holds is kept.

    Args:
        weights: dense weight matrices (M, K), by layer.
        evidence: second moments of the same layers' inputs.
        candidates: choices per layer; dense ones are skipped.
        directory: the folder of the database.
        method: which blocks go, and how the others are re-solved.
        workers: processes. With more than one the caller's main module must be importable
            (``if __name__ == "__main__"``), as ``multiprocessing`` demands.
        progress: told of every finished path.

    Returns:
        The database of exactly these candidates.

    Raises:
        UnsupportedError: worker after worker died.
        ValueError: a layer of the candidates has no weights or no evidence, or they do not fit.
    """
    method = method or PruningMethod()
    paths = [
        path
        for layer, choices in candidates.items()
        for path in _paths(layer, weights[layer], evidence[layer], choices, method)
    ]
    missing = [path for path in paths if not is_whole(directory / path.file, path.key, path.grid)]
    done = len(paths) - len(missing)
    progress(Step(_STAGE, done, len(paths)))
    # largest first: the last to finish is then a small one
    missing.sort(key=lambda path: path.grid.matrix.cols, reverse=True)
    for path, found in _computed(missing, weights, evidence, method, workers):
        write_path(directory / path.file, path.key, found, list(path.sparsities))
        done += 1
        progress(Step(_STAGE, done, len(paths), f"{path.layer} {path.grid.block}"))
    database = LayerDatabase(directory, _collect(paths, weights, candidates, directory))
    database.write_index()
    return database


def _paths(
    layer: str,
    weight: FloatMatrix,
    evidence: LayerEvidence,
    choices: Sequence[LayerChoice],
    method: PruningMethod,
) -> Iterator[_Path]:
    sparsities: dict[BlockShape, set[float]] = {}
    for choice in choices:
        if choice.block is not None:
            sparsities.setdefault(choice.block, set()).add(choice.sparsity)
    if not sparsities:
        return
    content = digest_text(f"{SCHEMA_VERSION} {method}", digest_array(weight), evidence.digest())
    for block, wanted in sorted(sparsities.items()):
        rising = tuple(sorted(wanted))
        yield _Path(
            layer,
            BlockGrid(MatrixShape(*weight.shape), block),
            rising,
            digest_text(content, str(block), repr(rising)),
        )


def _computed(
    paths: Sequence[_Path],
    weights: Mapping[str, FloatMatrix],
    evidence: Mapping[str, LayerEvidence],
    method: PruningMethod,
    workers: int,
) -> Iterator[tuple[_Path, list[Reconstruction]]]:
    """Every path with its weights, as they are finished; a worker that dies is replaced."""

    def arguments(path: _Path) -> _Arguments:
        return weights[path.layer], evidence[path.layer], path.grid, path.sparsities

    if workers <= 1 or len(paths) <= 1:
        for path in paths:
            yield path, prune_path(*arguments(path), method)
        return
    left, deaths = {path: arguments(path) for path in paths}, 0
    while left:
        try:
            for path, found in _in_processes(left, method, workers):
                del left[path]
                deaths = 0
                yield path, found
        except BrokenProcessPool as error:
            deaths += 1
            if deaths == _DEATHS:
                raise UnsupportedError(
                    f"{deaths} times in a row a worker died before it had reconstructed a layer",
                    hint="is there enough memory? fewer --workers need less",
                ) from error


def _in_processes(
    todo: Mapping[_Path, _Arguments], method: PruningMethod, workers: int
) -> Iterator[tuple[_Path, list[Reconstruction]]]:
    # not forked: torch's and BLAS's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(todo)), mp_context=context, initializer=use_one_thread
    ) as pool:
        jobs = {pool.submit(prune_path, *job, method): path for path, job in todo.items()}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _collect(
    paths: Sequence[_Path],
    weights: Mapping[str, FloatMatrix],
    candidates: Mapping[str, Sequence[LayerChoice]],
    directory: Path,
) -> dict[str, tuple[MatrixShape, dict[BlockShape, PathAddress]]]:
    layers: dict[str, tuple[MatrixShape, dict[BlockShape, PathAddress]]] = {
        layer: (MatrixShape(*weights[layer].shape), {}) for layer in candidates
    }
    for path in paths:
        record = read_record(directory / path.file)
        harms = dict(zip(record.sparsities, record.harms, strict=True))
        layers[path.layer][1][path.grid.block] = PathAddress(path.file, path.key, harms)
    return layers
