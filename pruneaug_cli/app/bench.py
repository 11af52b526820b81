"""``pruneaug bench``: two ONNX files side by side."""

from pathlib import Path

from pruneaug_cli.app.requests import BenchRequest
from pruneaug_cli.app.results import BenchModel, BenchResult
from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.export import read_model
from pruneaug_cli.progress import Progress, silent
from pruneaug_cli.runtime import bench_models, region_memory


def run_bench(request: BenchRequest, progress: Progress = silent) -> BenchResult:
    """Time a block-sparse file against a dense one, alternating in one process."""
    del progress
    library = request.library or library_beside(request.sparse)
    batch = request.batch or recorded_batch(request.sparse)
    timed = bench_models(
        request.sparse,
        request.dense,
        threads=request.threads,
        library=library,
        seconds=request.seconds,
        batch=batch,
    )
    memory = None if library is None else region_memory(request.sparse, library)
    models = tuple(
        BenchModel(
            model.path,
            model.latency_s,
            model.spread,
            model.threads,
            model.library,
            memory.weights_bytes if memory and model.library else None,
            memory.buffers_bytes if memory and model.library else None,
        )
        for model in timed.models
    )
    return BenchResult(models, timed.speedup, timed.max_abs_diff, batch)


def recorded_batch(path: Path) -> int:
    """The batch a file of ours was made for, that of its example inputs; 1 if it does not say.

    Raises:
        ModelFileError: what it says is no number of samples.
    """
    text = read_model(path).metadata.get("batch", "1")
    if not (text.isdecimal() and int(text)):
        raise ModelFileError(
            f"{path}: metadata: 'batch' should be a number from 1, got {text!r:.60}"
        )
    return int(text)


def library_beside(path: Path) -> Path | None:
    """The operator library that a file of ours names; None when it has no regions.

    Raises:
        ModelFileError: the file names a library that is not there.
    """
    model = read_model(path)
    if not model.regions:
        return None
    library = path.parent / model.metadata.get("library", "")
    if not library.is_file():
        raise ModelFileError(
            f"{path}: its operator library {library.name!r} is not beside it",
            hint="copy it there, name it with --library, or export again with: pruneaug export RUN",
        )
    return library
