"""The final comparison of a run: both exported files side by side, beside what was predicted.

Latencies are given for the machine at the speed at which its layers were profiled
(``runtime/pace.py``): on a machine that keeps its speed these are the plain medians.
"""

import time
from typing import Any

from pruneaug_cli.app.bench import recorded_batch
from pruneaug_cli.app.pacing import pace_of
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.platforms import read_profile
from pruneaug_cli.progress import Progress, Step
from pruneaug_cli.runtime import bench_models


def bench_run(run: RunDirectory, recipe: Recipe, progress: Progress) -> dict[str, Any]:
    """Time the exported file with our operators and without them, both against the dense one."""
    started = time.monotonic()
    run.require(run.model, made_by=f"pruneaug export {run.path}")
    profile = read_profile(run.require(run.profile, made_by="pruneaug search CHECKPOINT"))
    threads = recipe.bench.threads or profile.platform.threads
    library = run.path / run.read_result()["files"]["library"]
    progress(Step("bench", 0, 2, "with our operators"))
    pace, batch = pace_of(profile, library, threads), recorded_batch(run.model)
    ours = bench_models(
        run.model, run.dense_model, threads=threads, library=library,
        seconds=recipe.bench.budget_s, pace=pace, batch=batch,
    )  # fmt: skip
    progress(Step("bench", 1, 2, "stock ONNX Runtime"))
    stock = bench_models(
        run.model, run.dense_model, threads=threads,
        seconds=recipe.bench.budget_s / 2, pace=pace, batch=batch,
    )  # fmt: skip
    progress(Step("bench", 2, 2))
    sparse, dense = ours.models
    news = {
        "sparse": {"latency_s": sparse.latency_s, "spread": sparse.spread},
        "dense": {"latency_s": dense.latency_s, "spread": dense.spread},
        "speedup": ours.speedup,
        "bench": {
            "threads": threads,
            "batch": batch,
            "repeats": sparse.samples,
            "max_abs_diff": ours.max_abs_diff,
            "stock_latency_s": stock.models[0].latency_s,
            "stock_over_dense": 1.0 / stock.speedup,
        },
    }
    return run.update_result(news, step="bench", seconds=time.monotonic() - started)
