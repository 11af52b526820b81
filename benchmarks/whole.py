"""Times one pruned network in ONNX Runtime: our regions, the dense file, our file without us.

All sessions live in this process and take turns. A sample is ``SAMPLE_S`` of calls in a row, after
one that does not count (``runtime/clock.py``).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from random_models import ModelFiles

from pruneaug_cli.errors import UsageError, VerificationError
from pruneaug_cli.export import read_model
from pruneaug_cli.runtime import (
    Samples,
    Session,
    clock_for,
    example_arrays,
    open_session,
    region_memory,
    time_alternating,
)
from pruneaug_cli.runtime.bench import max_abs_diff
from pruneaug_cli.runtime.session import Array
from pruneaug_cli.runtime.verify import rounding_bound

SAMPLE_S = 1e-2
LEAST_SAMPLES = 15
SEED = 0

Row = dict[str, object]


def check_answers(files: ModelFiles, input_shape: Sequence[int], library: Path) -> None:
    """Compare the answers of the two files of one pruned network.

    Raises:
        VerificationError: they differ by more than rounding explains.
    """
    arrays = _inputs(open_session(files.dense), input_shape)
    (expected,) = open_session(files.dense).run(arrays)
    difference = max_abs_diff(open_session(files.sparse, library=library).run(arrays), [expected])
    allowed = rounding_bound(files.sparse) * float(np.abs(expected).max())
    if not difference <= allowed:  # NaN fails too
        raise VerificationError(
            f"{files.sparse}: differs from the dense file by {difference:.3g}; "
            f"rounding explains at most {allowed:.3g}"
        )


def time_files(
    files: ModelFiles,
    input_shape: Sequence[int] | None,
    library: Path,
    *,
    threads: int,
    seconds: float,
    stock: bool,
) -> Row:
    """The measured columns of a row.

    Args:
        files: what is compared.
        input_shape: None: that of the file, free sizes 1.
        library: our operators.
        threads: of each session.
        seconds: how long to measure.
        stock: measure our file without our library as well.
    """
    sparse = open_session(files.sparse, threads=threads, library=library)
    dense = open_session(files.dense, threads=threads)
    sessions = [sparse, dense]
    if stock:
        sessions.append(open_session(files.sparse, threads=threads))
    arrays = _inputs(dense, input_shape)
    difference = max_abs_diff(sparse.run(arrays), dense.run(arrays))
    samples = time_alternating(
        [session.bound_call(arrays) for session in sessions],
        repeats=LEAST_SAMPLES, sample_s=SAMPLE_S, budget_s=seconds, clock=clock_for(threads),
    )  # fmt: skip
    ours, peer = samples[:2]
    return {
        "dense_s": peer.median_s, "sparse_s": ours.median_s,
        "speedup": in_turns(peer, ours),
        "spread": ours.spread, "dense_spread": peer.spread, "samples": len(ours.samples_s),
        "stock_s": samples[2].median_s if stock else None,
        "size_bytes": files.sparse.stat().st_size,
        "dense_size_bytes": files.dense.stat().st_size,
        "max_abs_diff": difference, "threads": threads,
    }  # fmt: skip


def in_turns(slow: Samples, fast: Samples) -> float:
    """Median over the rounds of slow / fast: what a change of the machine's speed cannot move."""
    rounds = zip(slow.samples_s, fast.samples_s, strict=True)
    return float(np.median([before / after for before, after in rounds]))


def _inputs(session: Session, shape: Sequence[int] | None) -> list[Array]:
    if shape is None:
        return example_arrays(session.inputs, seed=SEED)
    return [np.random.default_rng(SEED).standard_normal(shape, np.float32)]


def find_exported(path: Path) -> ModelFiles:
    """The two files of a finished run, or of an exported file with its dense one beside it.

    Raises:
        UsageError: one of them is not there.
    """
    sparse = path / "model.onnx" if path.is_dir() else path
    dense = sparse.with_suffix(".dense.onnx")
    for file in (sparse, dense):
        if not file.is_file():
            raise UsageError(
                f"--exported: no file {file}",
                hint="name a finished run, or a file that `pruneaug export` wrote",
            )
    return ModelFiles(dense, sparse)


def describe_regions(sparse: Path, library: Path) -> Row:
    """Regions of a file, the blocks and weights in them, their memory, what stayed outside."""
    model = read_model(sparse)
    weights = [weight for record in model.regions for weight in record.program.weights]
    masks = [weight.mask for weight in weights if weight.mask is not None]
    kept = sum(w.shape.size if w.mask is None else w.mask.weights for w in weights)
    outside = Counter(f"{node.op}: {node.reason}" for node in model.outside)
    return {
        "regions": len(model.regions),
        "blocks": sorted({str(mask.grid.block) for mask in masks}),
        "removed": 1.0 - kept / sum(weight.shape.size for weight in weights),
        "memory": asdict(region_memory(sparse, library)),
        "outside": dict(outside),
    }
