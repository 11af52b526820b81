"""``pruneaug bench``: two ONNX files side by side."""

import math
from pathlib import Path

from pruneaug_cli.app.pacing import pace_of, why_not_comparable
from pruneaug_cli.app.requests import BenchRequest
from pruneaug_cli.app.results import BenchModel, BenchPrediction, BenchResult
from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.export import read_model
from pruneaug_cli.platforms import Profile, read_profile
from pruneaug_cli.progress import Progress, silent
from pruneaug_cli.runtime import bench_models, region_memory

PREDICTED = "predicted_latency_s"
"""What exported files call the latency that was predicted for them, seconds."""

_IN_PACE = 1.0 / 3.0


def run_bench(request: BenchRequest, progress: Progress = silent) -> BenchResult:
    """Time a block-sparse file against a dense one, alternating in one process.

    When the file says what was predicted for it, and lies in its run with the profile of this
    machine, a third of the time goes to timing it at the speed at which the profile was measured.
    """
    del progress
    library = request.library or library_beside(request.sparse)
    batch = request.batch or recorded_batch(request.sparse)
    predicted = _comparable_prediction(request, library, batch)
    timed = bench_models(
        request.sparse,
        request.dense,
        threads=request.threads,
        library=library,
        seconds=request.seconds * (1.0 if predicted is None else 1.0 - _IN_PACE),
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
    found = None if predicted is None else _compare(request, *predicted, batch)
    return BenchResult(models, timed.speedup, timed.max_abs_diff, batch, found)


def _comparable_prediction(
    request: BenchRequest, library: Path | None, batch: int
) -> tuple[float, Profile, Path] | None:
    """What was predicted for the file, the profile it comes from, and the library of the file.

    None when the file does not say, the profile is not at hand, or the times would not compare:
    another machine, other threads, another batch, no library.
    """
    text = read_model(request.sparse).metadata.get(PREDICTED)
    folders = request.sparse.resolve().parents[:2]  # its run, or the family that this belongs to
    path = next((p for folder in folders if (p := folder / "profile.json").is_file()), None)
    if text is None or path is None or library is None or batch != recorded_batch(request.sparse):
        return None
    profile = read_profile(path)
    if why_not_comparable(profile, request.threads) is not None:
        return None
    return _seconds(request.sparse, text), profile, library


def _seconds(path: Path, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise ModelFileError(
            f"{path}: metadata: {PREDICTED!r} should be seconds above 0, got {text!r:.60}"
        )
    return seconds


def _compare(
    request: BenchRequest, predicted_s: float, profile: Profile, library: Path, batch: int
) -> BenchPrediction:
    """Time the file as its layers were timed."""
    timed = bench_models(
        request.sparse, request.dense, threads=request.threads, library=library,
        seconds=request.seconds * _IN_PACE, batch=batch,
        pace=pace_of(profile, library, request.threads),
    )  # fmt: skip
    return BenchPrediction(predicted_s, timed.models[0].latency_s)


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
