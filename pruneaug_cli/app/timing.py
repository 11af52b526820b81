"""The final comparison of a run: both exported files side by side, beside what was predicted.

Latencies are given for the machine at the speed at which its layers were profiled
(``runtime/pace.py``): on a machine that keeps its speed these are the plain medians.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pruneaug_cli.app.bench import recorded_batch
from pruneaug_cli.app.export import write_models
from pruneaug_cli.app.family import on_each
from pruneaug_cli.app.outcome import judged
from pruneaug_cli.app.pacing import pace_of
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.requests import BenchRunRequest
from pruneaug_cli.app.results import Document, RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.errors import RunError
from pruneaug_cli.platforms import read_profile
from pruneaug_cli.progress import Progress, Step, silent
from pruneaug_cli.runtime import bench_models


def run_bench_run(request: BenchRunRequest, progress: Progress = silent) -> RunResult:
    """Time the exported file of a run, or of each member of a family, and keep it in the result."""

    def bench(run: RunDirectory, progress: Progress) -> Document:
        run.require(run.recipe)
        recipe = read_recipe(run.recipe)
        said = {"threads": request.threads, "budget_s": request.seconds}
        news = {key: value for key, value in said.items() if value is not None}
        changed = recipe.model_copy(update={"bench": recipe.bench.model_copy(update=news)})
        return judged(bench_run(run, changed, progress))

    return on_each(request.run_dir, bench, progress)


def probe_speed(
    run: RunDirectory, recipe: Recipe, prepared: PreparedModel, progress: Progress
) -> Document:
    """What the newest weights of a run would measure: its document, with latencies and speed-up.

    Nothing of the run changes. Training does not move blocks about, so a plan that is too slow is
    found out before it costs any.
    """
    profile = read_profile(run.require(run.profile))
    threads = recipe.bench.threads or profile.platform.threads
    progress(Step("speed before training", 0, 1))
    with TemporaryDirectory(prefix="probe-", dir=run.path) as folder:
        sparse, dense = Path(folder) / "model.onnx", Path(folder) / "model.dense.onnx"
        library = write_models(run, recipe, prepared, sparse, dense)
        timed = bench_models(
            sparse, dense, threads=threads, library=library, seconds=recipe.bench.budget_s,
            pace=pace_of(profile, library, threads), batch=recorded_batch(sparse),
        )  # fmt: skip
    progress(Step("speed before training", 1, 1))
    document = run.read_result()
    latency_s = timed.models[0].latency_s
    return {
        **document,
        "sparse": {**document["sparse"], "latency_s": latency_s},
        "speedup": timed.speedup,
    }


def bench_run(run: RunDirectory, recipe: Recipe, progress: Progress) -> dict[str, Any]:
    """Time the exported file with our operators and without them, both against the dense one.

    Raises:
        RunError: nothing was exported yet, or the plan or its weights have changed since.
    """
    started = time.monotonic()
    run.require(run.model, made_by=f"pruneaug export {run.path}")
    if "export" not in run.read_result():  # a new plan or checkpoint has made it untrue
        raise RunError(
            f"{run.model}: is of an earlier plan or training",
            hint=f"make it again with: pruneaug export {run.path}",
        )
    profile = read_profile(run.require(run.profile))
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
