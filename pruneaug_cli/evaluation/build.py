"""Building the layer database: every path computed once, in parallel when asked, within memory.

Whoever computes a path reads its layer's evidence, and writes the path's file: neither evidence nor
results wait anywhere in memory. As many paths are under way as there are workers, and as fit the
memory that is free (``path_memory.py``); one always is.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pruneaug_cli.children import Children, WorkerDiedError
from pruneaug_cli.core import BlockGrid, BlockShape, FloatMatrix, LayerChoice, MatrixShape
from pruneaug_cli.criteria import EvidenceSource, HarmMeasure, PruningMethod
from pruneaug_cli.criteria.worker import begin_work
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.evaluation.database import LayerDatabase, PathAddress
from pruneaug_cli.evaluation.path import PathJob, compute_path, is_computed
from pruneaug_cli.evaluation.path_file import SCHEMA_VERSION, read_record
from pruneaug_cli.evaluation.path_memory import reconstruction_bytes, spare_bytes
from pruneaug_cli.files import digest_array, digest_text, remove_leftovers
from pruneaug_cli.progress import Progress, Step, silent

_STAGE = "reconstructing layers"
_DEATHS = 10  # workers that may die in a row, no path finished between them

_Arguments = tuple[Path, PathJob, FloatMatrix, EvidenceSource, PruningMethod]


@dataclass(frozen=True, slots=True, eq=False)
class _Inputs:
    """What paths are made of; only what a path needs of it goes to its worker."""

    weights: Mapping[str, FloatMatrix]
    evidence: Mapping[str, EvidenceSource]
    directory: Path
    method: PruningMethod


def build_database(
    weights: Mapping[str, FloatMatrix],
    evidence: Mapping[str, EvidenceSource],
    candidates: Mapping[str, Sequence[LayerChoice]],
    directory: Path,
    *,
    method: PruningMethod | None = None,
    harm: HarmMeasure = "output",
    workers: int = 1,
    progress: Progress = silent,
) -> LayerDatabase:
    """Reconstruct every candidate of every layer; what the folder already holds is kept.

    Args:
        weights: dense weight matrices (M, K), by layer.
        evidence: of the same layers; one layer's is loaded at a time and worker.
        candidates: choices per layer; dense ones are skipped.
        directory: the folder of the database.
        method: which blocks go, and how the others are re-solved.
        harm: the measure that the database answers with; ``loss`` needs evidence with curvature.
            Another measure of weights that are there is computed without reconstructing again.
        workers: processes. With more than one the caller's main module must be importable
            (``if __name__ == "__main__"``), as ``multiprocessing`` demands.
        progress: told of every finished path.

    Returns:
        The database of exactly these candidates.

    Raises:
        UnsupportedError: worker after worker died.
        ValueError: a layer of the candidates has no weights or no evidence, or they do not fit.
    """
    remove_leftovers(directory)
    inputs = _Inputs(weights, evidence, directory, method or PruningMethod())
    paths = [
        path for layer, choices in candidates.items() for path in _paths(inputs, layer, choices)
    ]
    missing = [path for path in paths if not is_computed(directory, path)]
    # largest first: the last to finish is then a small one
    missing.sort(key=lambda path: path.grid.matrix.cols, reverse=True)
    told = _Told(progress, paths, missing, workers)
    with closing(_computed(missing, inputs, workers)) as finished:
        for path in finished:
            told.finished(path)
    database = LayerDatabase(directory, _collect(paths, weights, candidates, directory), harm)
    database.write_index()
    return database


class _Told:
    """Tells how far the paths are, in pieces and in work, which is mostly that of wide layers."""

    def __init__(
        self, progress: Progress, paths: Sequence[PathJob], missing: Sequence[PathJob], workers: int
    ) -> None:
        self._progress, self._total, self._workers = progress, len(paths), max(workers, 1)
        self._left = sum(map(_work, missing))
        self._all = sum(map(_work, paths)) or 1.0
        self._done = len(paths) - len(missing)
        self._tell("")

    def finished(self, path: PathJob) -> None:
        """One more path is in its file."""
        self._done += 1
        self._left -= _work(path)
        self._tell(f"{path.layer} {path.grid.block}")

    def _tell(self, note: str) -> None:
        share = 1.0 - self._left / self._all
        self._progress(Step(_STAGE, self._done, self._total, note, self._workers, share))


def _work(path: PathJob) -> float:
    """How long a path takes beside others, roughly: by its block rows and the square of K."""
    return float(path.grid.shape[0] * path.grid.matrix.cols**2)


def _paths(inputs: _Inputs, layer: str, choices: Sequence[LayerChoice]) -> Iterator[PathJob]:
    sparsities: dict[BlockShape, set[float]] = {}
    for choice in choices:
        if choice.block is not None:
            sparsities.setdefault(choice.block, set()).add(choice.sparsity)
    if not sparsities:
        return
    weight, found = inputs.weights[layer], inputs.evidence[layer].load()
    content = digest_text(f"{SCHEMA_VERSION} {inputs.method}", digest_array(weight), found.digest())
    curvature = found.curvature_digest()
    for block, wanted in sorted(sparsities.items()):
        rising = tuple(sorted(wanted))
        yield PathJob(
            layer,
            BlockGrid(MatrixShape(*weight.shape), block),
            rising,
            digest_text(content, str(block), repr(rising)),
            curvature,
        )


def _computed(paths: Sequence[PathJob], inputs: _Inputs, workers: int) -> Generator[PathJob]:
    """Every path once its file is written."""
    if workers <= 1 or len(paths) <= 1:
        for path in paths:
            _compute(_arguments(path, inputs))
            yield path
        return
    children: Children[_Arguments, None] = Children(_begin)
    try:
        yield from _within(paths, inputs, children, workers, spare_bytes)
    finally:
        children.close()


def _begin() -> Callable[[_Arguments], None]:
    begin_work()
    return _compute


def _compute(arguments: _Arguments) -> None:
    compute_path(*arguments)


def _within(
    todo: Sequence[PathJob],
    inputs: _Inputs,
    children: Children[_Arguments, None],
    workers: int,
    spare: Callable[[], int],
) -> Iterator[PathJob]:
    """Hand out paths, ``workers`` at a time at most, and only while they fit the memory.

    The path of a worker that died is tried again, when nothing else is left to begin with.
    """
    waiting, running, deaths, most_bytes = list(todo), list[PathJob](), 0, spare()
    while waiting or running:
        used = sum(map(_needed_bytes, running))
        fits = (path for path in waiting if not running or used + _needed_bytes(path) <= most_bytes)
        following = next(fits, None) if len(running) < workers else None
        if following is not None:
            waiting.remove(following)
            running.append(following)
            children.submit(_arguments(following, inputs))
            continue
        for (_, path, *_), found in children.wait():
            running.remove(path)
            if isinstance(found, WorkerDiedError):
                deaths += 1
                # others may have taken memory; what ours have is no longer free, and stays theirs
                most_bytes = min(most_bytes, spare() + sum(map(_needed_bytes, running)))
                if deaths == _DEATHS:
                    raise _killed(deaths, found) from found
                waiting.append(path)
            elif found is not None:
                raise found
            else:
                deaths = 0
                yield path


def _killed(deaths: int, last: WorkerDiedError) -> UnsupportedError:
    return UnsupportedError(
        f"{deaths} times in a row a worker died before it had reconstructed a layer ({last})",
        hint="is there enough memory? fewer workers (search.workers) need less",
    )


def _needed_bytes(path: PathJob) -> int:
    return reconstruction_bytes(path.grid, len(path.sparsities))


def _arguments(path: PathJob, inputs: _Inputs) -> _Arguments:
    weight, evidence = inputs.weights[path.layer], inputs.evidence[path.layer]
    return inputs.directory, path, weight, evidence, inputs.method


def _collect(
    paths: Sequence[PathJob],
    weights: Mapping[str, FloatMatrix],
    candidates: Mapping[str, Sequence[LayerChoice]],
    directory: Path,
) -> dict[str, tuple[MatrixShape, dict[BlockShape, PathAddress]]]:
    layers: dict[str, tuple[MatrixShape, dict[BlockShape, PathAddress]]] = {
        layer: (MatrixShape(*weights[layer].shape), {}) for layer in candidates
    }
    for path in paths:
        record = read_record(directory / path.file)
        harms = {
            measure: dict(zip(record.sparsities, values, strict=True))
            for measure, values in record.harms.items()
        }
        layers[path.layer][1][path.grid.block] = PathAddress(path.file, path.key, harms)
    return layers
