"""The final comparison of a run: both exported files side by side, beside what was predicted.

Latencies are given for the machine at the speed at which its layers were profiled
(``runtime/pace.py``): on a machine that keeps its speed these are the plain medians.
"""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pruneaug_cli.app.bench import recorded_batch
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.platforms import Profile, read_profile
from pruneaug_cli.profiling import SessionTimer, host_facts, why_not_extend
from pruneaug_cli.progress import Progress, Step
from pruneaug_cli.runtime import Pace, bench_models


def bench_run(run: RunDirectory, recipe: Recipe, progress: Progress) -> dict[str, Any]:
    """Time the exported file with our operators and without them, both against the dense one."""
    started = time.monotonic()
    run.require(run.model, made_by=f"pruneaug export {run.path}")
    profile = read_profile(run.require(run.profile, made_by="pruneaug search CHECKPOINT"))
    threads = recipe.bench.threads or profile.platform.threads
    library = run.path / run.read_result()["files"]["library"]
    progress(Step("bench", 0, 2, "with our operators"))
    pace, batch = _pace(profile, library, threads), recorded_batch(run.model)
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


def _pace(profile: Profile, library: Path, threads: int) -> Pace:
    """The speed at which the layers were profiled, if here and so; else the best seen now."""
    platform = replace(profile.platform, threads=threads)
    reason = why_not_extend(profile, host=host_facts(), kernels=profile.kernels, platform=platform)
    best_s = float(profile.settings.get("yardstick_s", math.inf)) if reason is None else math.inf
    return SessionTimer(library, threads, yardstick_s=best_s).pace
