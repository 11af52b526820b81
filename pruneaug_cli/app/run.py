"""``pruneaug run``: the whole way as a recipe says; each step goes on where it was interrupted."""

import time
from typing import Any

from pruneaug_cli.app.calibration import calibrate
from pruneaug_cli.app.export import export_run
from pruneaug_cli.app.finetune import finetune_run
from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.profile import existing_profile, measure
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.report import write_report
from pruneaug_cli.app.requests import ProfileRequest, RunRequest
from pruneaug_cli.app.results import RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.app.search import default_folder, search_run
from pruneaug_cli.app.timing import bench_run
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.platforms import write_profile
from pruneaug_cli.progress import Progress, silent

THIS_MACHINE = "this-machine"
"""The platform of a recipe that wants the machine measured on which it runs."""


def run_run(request: RunRequest, progress: Progress = silent) -> RunResult:
    """Profile, search, fine-tune, export, bench, report.

    Raises:
        BudgetError: the measured result misses the goal; the report is written all the same.
    """
    recipe = read_recipe(request.recipe, settings=request.settings)
    prepared = prepare_recipe(recipe, trust=request.trust_checkpoint)
    run = RunDirectory(request.run_dir or default_folder(prepared))
    recipe = _profiled(run, recipe, prepared, progress)
    search_run(run, recipe, prepared, request.storage, progress, trust=request.trust_checkpoint)
    if recipe.finetune.epochs > 0 and not run.checkpoint.exists():
        finetune_run(run, recipe, prepared, progress)
    export_run(run, recipe, prepared, progress)
    bench_run(run, recipe, progress)
    result = write_report(run)
    require_goal(result.document, str(result.report))
    return result


def _profiled(
    run: RunDirectory, recipe: Recipe, prepared: PreparedModel, progress: Progress
) -> Recipe:
    """Measure this machine for the model, unless the recipe names another platform."""
    if recipe.platform not in (None, THIS_MACHINE):
        return recipe
    started = time.monotonic()
    path = run.path / f"{THIS_MACHINE}.json"
    settings = recipe.profile
    request = ProfileRequest(
        platform=THIS_MACHINE,
        task=recipe.task,
        backend=settings.backend,
        threads=settings.threads,
        out=path,
        budget_s=settings.budget_s,
        blocks=None if settings.blocks is None else tuple(map(str, settings.blocks)),
        sparsities=settings.sparsities,
        seed=recipe.seed,
    )
    digest = prepared.network_digest()
    known = existing_profile(path, request)
    if known is not None and known.network(digest) is not None:
        return recipe.model_copy(update={"platform": str(path)})
    geometries = list(dict.fromkeys(layer.geometry for layer in prepared.layers))
    profile = measure(request, geometries, path, progress)
    write_profile(profile.with_network(calibrate(prepared, profile, progress)), path)
    run.update_result({}, step="profile", seconds=time.monotonic() - started)
    return recipe.model_copy(update={"platform": str(path)})


def require_goal(document: dict[str, Any], report: str) -> None:
    """Refuse a result that misses its goal, from measured values only.

    The speed-up is the benched one; the drop is that of the validation metric, from the files.

    Raises:
        BudgetError: the goal is missed; says by how much.
    """
    goal, dense, sparse = document["goal"], document["dense"], document["sparse"]
    sign = 1.0 if document["higher_is_better"] else -1.0
    drop = sign * (dense["metric"] - sparse["metric"])
    misses = []
    if goal["max_drop"] is not None and drop > goal["max_drop"] + 1e-9:
        misses.append(f"the metric fell by {drop:.4g}, more than {goal['max_drop']:g}")
    if goal["target_speedup"] is not None and document["speedup"] < goal["target_speedup"]:
        misses.append(
            f"the measured speed-up is {document['speedup']:.2f}, less than "
            f"{goal['target_speedup']:g}"
        )
    elif goal["target_latency_s"] is not None and sparse["latency_s"] > goal["target_latency_s"]:
        misses.append(
            f"the measured latency is {sparse['latency_s'] * 1e3:.3g} ms, more than "
            f"{goal['target_latency_s'] * 1e3:.3g} ms"
        )
    if misses:
        raise BudgetError(
            f"the goal is missed: {'; '.join(misses)}",
            hint=f"see {report}; train longer, allow a larger drop, or ask for less speed",
        )
