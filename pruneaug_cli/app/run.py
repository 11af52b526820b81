"""``pruneaug run``: the whole way as a recipe says; each step goes on where it was interrupted."""

import time
from dataclasses import replace

from pruneaug_cli.app.calibration import calibrate
from pruneaug_cli.app.family import on_each, require_answers
from pruneaug_cli.app.finish import Finish
from pruneaug_cli.app.front import read_front
from pruneaug_cli.app.outcome import misses
from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.profile import existing_profile, measure
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.report import run_report
from pruneaug_cli.app.requests import ProfileRequest, ReportRequest, RunRequest
from pruneaug_cli.app.results import Document, RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.app.search import dashboard_command, default_folder, search_run
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.platforms import write_profile
from pruneaug_cli.progress import Progress, silent

THIS_MACHINE = "this-machine"
"""The platform of a recipe that wants the machine measured on which it runs."""


def run_run(request: RunRequest, progress: Progress = silent) -> RunResult:
    """Profile, search, fine-tune, export, bench, report; of a family each member in turn.

    Raises:
        BudgetError: a measured result misses its goal; it has the result, and the report is
            written all the same.
    """
    recipe = read_recipe(request.recipe, settings=request.settings)
    prepared = prepare_recipe(recipe, trust=request.trust_checkpoint)
    run = RunDirectory.at(request.run_dir or default_folder(prepared))
    recipe = _profiled(run, recipe, prepared, progress)
    storage, trust = request.storage, request.trust_checkpoint
    searched = search_run(run, recipe, prepared, storage, progress, trust=trust)
    members = recipe.members()

    def finish(run: RunDirectory, progress: Progress) -> Document:
        own = members.get(run.path.name, recipe) if members else recipe
        return Finish(run, own, prepared, storage, trust, progress)()

    on_each(run.path, finish, progress)
    result = replace(
        run_report(ReportRequest(run.path)),
        front=read_front(run)["front"],
        dashboard=dashboard_command(run, storage),
    )
    require_goals(run, result)
    require_answers(run, searched, result)
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


def require_goals(run: RunDirectory, result: RunResult) -> None:
    """Refuse results that miss their goals, from measured values only.

    The speed-up is the benched one; the drop is that of the validation metric, from the files.

    Raises:
        BudgetError: a goal is missed; says which, and by how much, and has ``result``.
    """
    runs = {member.path.name: member for member in run.members()} or {"": run}
    missed = {name: misses(one.read_result()) for name, one in runs.items()}
    found = [
        f"{name}: {'; '.join(reasons)}" if name else "; ".join(reasons)
        for name, reasons in missed.items()
        if reasons
    ]
    if found:
        goal = "the goal is" if len(runs) == 1 else f"{len(found)} of {len(runs)} goals are"
        raise BudgetError(
            f"{goal} missed: {'; '.join(found)}",
            hint=f"see {result.report}; train longer, allow a larger drop, or ask for less speed",
            found=result,
        )
