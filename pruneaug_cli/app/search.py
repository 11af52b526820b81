"""``pruneaug search``: from a checkpoint to a plan, and to the weights pruned by it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pruneaug_cli.app.answer import Basis, keep_answer
from pruneaug_cli.app.database import make_database, require_gradients
from pruneaug_cli.app.evaluator import MakeEvaluator, early_stop, stitched
from pruneaug_cli.app.finalists import choose
from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.pricing import Pricing, price
from pruneaug_cli.app.recipe import Recipe, dump_recipe
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.requests import SearchRequest
from pruneaug_cli.app.results import PreflightResult, RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.criteria import require_criterion
from pruneaug_cli.evaluation import LayerDatabase, StitchedEvaluator
from pruneaug_cli.files import write_text
from pruneaug_cli.progress import Progress, Step, silent
from pruneaug_cli.search import (
    ENGINES,
    STRATEGIES,
    Engine,
    Here,
    SearchProblem,
    largest_drop,
    preflight,
    require_reachable,
    require_storage,
)
from pruneaug_cli.search import run_search as search_plans

_STUDY = "pruneaug"


def run_search(request: SearchRequest, progress: Progress = silent) -> RunResult | PreflightResult:
    """Search a plan; with ``dry_run``, only say what could be reached."""
    recipe = read_recipe(request.recipe, settings=request.settings, overrides=request.overrides())
    prepared = prepare_recipe(recipe, trust=request.trust_checkpoint)
    run = RunDirectory(request.run_dir or default_folder(prepared))
    if request.dry_run:
        return look_ahead(prepared, recipe, price(prepared, recipe, run, progress))
    return RunResult(
        run.path,
        search_run(
            run, recipe, prepared, request.storage, progress, trust=request.trust_checkpoint
        ),
    )


def default_folder(prepared: PreparedModel) -> Path:
    """Where a run lies when nobody says: ``runs/TASK``."""
    return Path("runs") / prepared.task.name


def search_run(
    run: RunDirectory,
    recipe: Recipe,
    prepared: PreparedModel,
    storage: str | None,
    progress: Progress,
    *,
    trust: bool = False,
) -> dict[str, Any]:
    """Search, and leave plan, pruned weights and result in the run's folder.

    What can be refused from names and prices alone is refused before anything is spent. ``trust``:
    as in :func:`prepare_recipe`, for the workers.
    """
    started = time.monotonic()
    STRATEGIES.create(recipe.search.strategy)
    ENGINES.create(recipe.search.engine)
    require_criterion(recipe.search.criterion)
    require_gradients(recipe.search, prepared)
    if storage is not None:
        require_storage(storage)
    pricing = price(prepared, recipe, run, progress)
    require_reachable(_priced(recipe, pricing))
    write_text(run.recipe, dump_recipe(recipe))
    database = make_database(run, recipe, prepared, pricing.candidates, progress)
    problem = _problem(recipe, prepared, pricing, database)
    stop = early_stop(recipe, prepared, problem.dense_metric, largest_drop([problem]))
    basis = Basis(prepared, pricing, database, stitched(prepared, database, stop))
    make = MakeEvaluator.of(recipe, run.database, stop, trust=trust)
    url = storage or f"sqlite:///{run.study.resolve()}"
    with _engine(recipe, basis.evaluator, make) as engine:
        found = search_plans(
            problem,
            engine,
            strategy=recipe.search.strategy,
            storage=url,
            study_name=_STUDY if storage is None else f"{_STUDY}-{run.shared.name}",
            trials=recipe.search.trials,
            timeout_s=recipe.search.timeout_s,
            seed=recipe.seed,
            progress=_beside(pricing.network.dense_latency_s, progress),
        )
    found = choose(run, recipe, basis, problem, found, storage=url, progress=progress)
    return keep_answer(run, recipe, basis, problem, found, seconds=time.monotonic() - started)


def _beside(dense_latency_s: float, progress: Progress) -> Progress:
    """Add what speed-ups refer to, which the search does not know."""

    def tell(step: Step) -> None:
        standing = step.standing
        if standing is not None:
            standing = replace(standing, baseline_s=dense_latency_s)
        progress(replace(step, standing=standing))

    return tell


@contextmanager
def _engine(recipe: Recipe, here: StitchedEvaluator, make: MakeEvaluator) -> Iterator[Engine]:
    """Where plans are evaluated: one worker on this machine needs no process of its own."""
    settings = recipe.search
    if settings.workers == 1 and settings.engine == "processes":
        yield Here(here)
        return
    with ENGINES.create(settings.engine)(make, settings.workers) as engine:
        yield engine


def look_ahead(prepared: PreparedModel, recipe: Recipe, pricing: Pricing) -> PreflightResult:
    """What a search could reach, from prices alone."""
    known = preflight(_priced(recipe, pricing))
    baseline = pricing.network.dense_latency_s
    return PreflightResult(
        task=prepared.task.address,
        platform=pricing.profile.name,
        layers=known.layers,
        skipped={layer.name: layer.reason for layer in prepared.trace.skipped},
        baseline_latency_s=baseline,
        dense_latency_s=known.dense_s,
        min_latency_s=known.fastest_s,
        rest_s=pricing.network.rest_s,
        max_speedup=baseline / known.fastest_s,
        space_before=pricing.candidates.log10_before,
        space_after=pricing.candidates.log10_after,
        space=pricing.candidates.cuts,
        target_latency_s=pricing.target_latency_s(recipe),
        satisfiable=None if known.target_s is None else known.satisfiable,
    )


def _priced(recipe: Recipe, pricing: Pricing) -> SearchProblem:
    """The problem before any harm is known: enough to say which latencies can be reached."""
    planned = pricing.planned_latency_s(recipe)
    return SearchProblem(
        pricing.options(),
        pricing.network.rest_s,
        dense_metric=0.0,
        max_drop=recipe.goal.max_drop if planned is None else None,
        target_latency_s=planned,
    )


def _problem(
    recipe: Recipe, prepared: PreparedModel, pricing: Pricing, database: LayerDatabase
) -> SearchProblem:
    target = pricing.planned_latency_s(recipe)
    recovers = recipe.finetune.epochs > 0
    drop = recipe.goal.max_drop
    if drop is not None and recovers:
        # training comes after: a target leaves the floor to it, a floor is relaxed for it
        drop = None if target is not None else drop + recipe.search.recovery
    return SearchProblem(
        pricing.options(database.harm),
        pricing.network.rest_s,
        prepared.task.quick_evaluate(prepared.model, "cpu"),
        prepared.task.higher_is_better,
        max_drop=drop,
        target_latency_s=target,
    )
