"""Two ONNX files side by side in one process: how fast each is, and how far apart they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.runtime.clock import Clock, Samples, clock_for, time_alternating
from pruneaug_cli.runtime.pace import Pace, time_in_pace
from pruneaug_cli.runtime.session import Array, Port, Session, open_session

LEAST_SAMPLES = 15
_SAMPLE_S = 5e-3  # shorter ones show a model that has just got the core: 1 ms takes 1 to 2% more


@dataclass(frozen=True, slots=True)
class ModelTiming:
    """How one model did.

    Attributes:
        path: the file.
        latency_s: median of the samples.
        spread: inter-quartile range over the median.
        threads: of the session.
        library: whether our operators were loaded.
        samples: how many there were.
    """

    path: Path
    latency_s: float
    spread: float
    threads: int
    library: bool
    samples: int


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Models timed alternately: the sparse one first.

    Attributes:
        models: one timing each.
        speedup: median latency of the dense model over that of the sparse one.
        max_abs_diff: largest difference between the outputs of the two; a pruned model differs
            from the one it came from, so this is information, not a check.
    """

    models: tuple[ModelTiming, ...]
    speedup: float
    max_abs_diff: float


def bench_models(
    sparse_path: Path,
    dense_path: Path,
    *,
    threads: int = 1,
    library: Path | None = None,
    seconds: float = 5.0,
    seed: int = 0,
    clock: Clock | None = None,
    pace: Pace | None = None,
    batch: int = 1,
) -> BenchResult:
    """Time two models alternately on the same random inputs.

    Args:
        sparse_path: opened with ``library``.
        dense_path: opened without: ONNX Runtime as everybody has it.
        threads: of each session.
        library: our operators; None times the function bodies.
        seconds: how long to measure; at least ``LEAST_SAMPLES`` samples of each are taken.
        seed: of the inputs, which are standard normal.
        clock: what samples are read from; None: :func:`clock_for` the threads.
        pace: give latencies for the machine at the speed of its yardstick; None: as they were.
        batch: samples per run.

    Raises:
        ModelFileError: a file cannot be loaded, the two do not take and give the same, or they
            take another batch only.
    """
    sparse = open_session(sparse_path, threads=threads, library=library)
    dense = open_session(dense_path, threads=threads)
    _require_same_ports(sparse, dense)
    _require_batch(sparse, batch)
    arrays = example_arrays(sparse.inputs, seed=seed, batch=batch)
    difference = max_abs_diff(sparse.run(arrays), dense.run(arrays))
    calls = [sparse.bound_call(arrays), dense.bound_call(arrays)]
    clock = clock or clock_for(threads)
    if pace is None:
        fast, slow = time_alternating(
            calls, repeats=LEAST_SAMPLES, sample_s=_SAMPLE_S, budget_s=seconds, clock=clock
        )
    else:
        # a sample lasts up to twice _SAMPLE_S
        repeats = max(LEAST_SAMPLES, int(seconds / (2 * len(calls) * _SAMPLE_S)))
        fast, slow = time_in_pace(
            calls, pace, repeats=repeats, sample_s=_SAMPLE_S, clock=clock, budget_s=seconds
        )
    return BenchResult(
        (_timing(sparse, sparse_path, fast), _timing(dense, dense_path, slow)),
        slow.median_s / fast.median_s,
        difference,
    )


def example_arrays(ports: Sequence[Port], *, seed: int, batch: int = 1) -> list[Array]:
    """Inputs that fit ``ports``: normal where real, zero where integer; free sizes are ``batch``.

    The files of this project have no free size but the batch.
    """
    random = np.random.default_rng(seed)
    arrays: list[Array] = []
    for port in ports:
        shape = tuple(size if isinstance(size, int) else batch for size in port.shape)
        real = np.issubdtype(port.dtype, np.floating)
        values = random.standard_normal(shape) if real else np.zeros(shape)
        arrays.append(values.astype(port.dtype))
    return arrays


def max_abs_diff(first: Sequence[Array], second: Sequence[Array]) -> float:
    """Largest difference between two lists of arrays; NaN when one of them has a NaN."""
    worst = 0.0
    for one, other in zip(first, second, strict=True):
        if one.size:
            gap = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
            worst = float(np.maximum(worst, gap))  # keeps NaN, unlike max()
    return worst


def _require_same_ports(sparse: Session, dense: Session) -> None:
    for kind, ours, theirs in (
        ("inputs", sparse.inputs, dense.inputs),
        ("outputs", sparse.outputs, dense.outputs),
    ):
        found, expected = _describe(ours), _describe(theirs)
        if found != expected:
            raise ModelFileError(
                f"{sparse.name} and {dense.name} cannot be compared: "
                f"{kind} {found} against {expected}"
            )


def _require_batch(session: Session, batch: int) -> None:
    port = next((port for port in session.inputs if port.shape), None)
    if port is not None and port.fixed_batch not in {None, batch}:
        raise ModelFileError(
            f"{session.name}: input {port.name!r} has the fixed batch {port.fixed_batch}; "
            f"asked for {batch}",
            hint="export with example inputs of that batch, or time it as it is",
        )


def _describe(ports: Sequence[Port]) -> str:
    """Types and sizes; free sizes may have any name."""
    return ", ".join(
        f"{port.dtype}({'x'.join(str(s) if isinstance(s, int) else '?' for s in port.shape)})"
        for port in ports
    )


def _timing(session: Session, path: Path, samples: Samples) -> ModelTiming:
    return ModelTiming(
        path,
        samples.median_s,
        samples.spread,
        session.threads,
        session.library,
        len(samples.samples_s),
    )
