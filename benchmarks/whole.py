"""Times one pruned network in ONNX Runtime: our regions, the dense file, our file without us.

All sessions live in this process and take turns. A sample is ``SAMPLE_S`` of calls in a row: long
enough for the weights of one to come back into the caches another has taken, as in a program that
runs one model again and again.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from random_models import ModelFiles

from pruneaug_cli.errors import VerificationError
from pruneaug_cli.export import read_model
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.native.library import Library
from pruneaug_cli.runtime import clock_for, open_session, time_alternating
from pruneaug_cli.runtime.bench import max_abs_diff
from pruneaug_cli.runtime.verify import rounding_bound

SAMPLE_S = 1e-2
LEAST_SAMPLES = 15
SEED = 0

Row = dict[str, object]


def time_files(
    files: ModelFiles,
    input_shape: Sequence[int],
    library: Path,
    *,
    threads: int,
    seconds: float,
    stock: bool,
) -> Row:
    """The measured columns of a row; ``stock`` asks for our file without our library as well.

    Raises:
        VerificationError: the sparse file answers otherwise than the dense one.
    """
    sparse = open_session(files.sparse, threads=threads, library=library)
    dense = open_session(files.dense, threads=threads)
    arrays = [np.random.default_rng(SEED).standard_normal(input_shape, np.float32)]
    expected = dense.run(arrays)
    difference = max_abs_diff(sparse.run(arrays), expected)
    magnitude = max(float(abs(array).max()) for array in expected)
    if not difference <= rounding_bound(files.sparse) * magnitude:
        raise VerificationError(
            f"{files.sparse.name}: differs by {difference:.3g} from the dense file, "
            f"whose largest answer is {magnitude:.3g}"
        )
    sessions = [sparse, dense]
    if stock:
        sessions.append(open_session(files.sparse, threads=threads))
    samples = time_alternating(
        [session.bound_call(arrays) for session in sessions],
        repeats=LEAST_SAMPLES, sample_s=SAMPLE_S, budget_s=seconds, clock=clock_for(threads),
    )  # fmt: skip
    ours, peer = samples[:2]
    return {
        "dense_s": peer.median_s, "sparse_s": ours.median_s,
        "speedup": peer.median_s / ours.median_s,
        "spread": ours.spread, "dense_spread": peer.spread, "samples": len(ours.samples_s),
        "stock_s": samples[2].median_s if stock else None,
        "size_bytes": files.sparse.stat().st_size,
        "dense_size_bytes": files.dense.stat().st_size,
        "max_abs_diff": difference, "max_abs_dense": magnitude,
    }  # fmt: skip


def describe_regions(sparse: Path, library: Path) -> Row:
    """How many regions a file has, the memory they take, and what stayed outside."""
    model = read_model(sparse)
    weights = buffers = 0
    for record in model.regions:
        with Library(library).open_region(encode(record.program)) as region:
            held, needed = region.memory_bytes
        weights, buffers = weights + held, buffers + needed
    outside: dict[str, int] = {}
    for node in model.outside:
        key = f"{node.op}: {node.reason}"
        outside[key] = outside.get(key, 0) + 1
    return {
        "regions": len(model.regions),
        "memory": {"weights_bytes": weights, "buffers_bytes": buffers},
        "outside": outside,
    }
