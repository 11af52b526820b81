"""``pruneaug search``: from a checkpoint to a plan, and to the weights pruned by it."""

import math
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pruneaug_cli.app.answer import Basis
from pruneaug_cli.app.database import harm_measure, make_database, require_gradients
from pruneaug_cli.app.evaluator import MakeEvaluator, early_stop, stitched
from pruneaug_cli.app.family import (
    Answer,
    asked_by,
    keep_answers,
    labelled,
    require_answers,
)
from pruneaug_cli.app.finalists import choose
from pruneaug_cli.app.front import read_front
from pruneaug_cli.app.margin import planned_latency_s
from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.pricing import Pricing, price
from pruneaug_cli.app.reach import require_all_reachable, require_choices, require_gain
from pruneaug_cli.app.recipe import Recipe, dump_recipe
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.requests import SearchRequest
from pruneaug_cli.app.results import Document, PreflightResult, PreflightTarget, RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.criteria import require_criterion
from pruneaug_cli.evaluation import LayerDatabase, StitchedEvaluator
from pruneaug_cli.files import write_text
from pruneaug_cli.platforms import write_profile
from pruneaug_cli.progress import Progress, Step, silent
from pruneaug_cli.search import (
    ENGINES,
    STRATEGIES,
    Engine,
    Here,
    SearchProblem,
    SearchResult,
    Setting,
    largest_drop,
    preflight,
    require_same_study,
    require_storage,
    run_family,
    shown,
)

_STUDY = "pruneaug"


def run_search(request: SearchRequest, progress: Progress = silent) -> RunResult | PreflightResult:
    """Search a plan, or one for each goal; with ``dry_run``, only say what could be reached.

    Raises:
        BudgetError: a goal has no answer; those that have one are in their folders all the same.
    """
    recipe = read_recipe(request.recipe, settings=request.settings, overrides=request.overrides())
    prepared = prepare_recipe(recipe, trust=request.trust_checkpoint)
    run = RunDirectory.at(request.run_dir or default_folder(prepared))
    if request.dry_run:
        return look_ahead(prepared, recipe, price(prepared, recipe, run, progress))
    document = search_run(
        run, recipe, prepared, request.storage, progress, trust=request.trust_checkpoint
    )
    result = RunResult(
        run.path, document,
        front=read_front(run)["front"], dashboard=dashboard_command(run, request.storage),
    )  # fmt: skip
    require_answers(run, document, result)
    return result


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
    more: int = 0,
    planned_s: float | None = None,
) -> Document:
    """Search, and leave plan, pruned weights and result in the run's folder, or in the members'.

    What can be refused from names and prices alone is refused before anything is spent. ``trust``:
    as in :func:`prepare_recipe`, for the workers. ``more``: evaluate so many plans more than there
    are, whatever the recipe says. ``planned_s``: plan for this latency, not as planned before.
    """
    started = time.monotonic()
    _require_names(recipe, prepared, storage)
    asked = asked_by(run, recipe)
    pricing = price(prepared, recipe, run, progress)
    url, name = _study_of(run, storage)
    made_with = _made_with(recipe, prepared)
    planned = {
        member: planned_s or planned_latency_s(*one, pricing) for member, one in asked.items()
    }
    _require_answerable(recipe, asked, planned, pricing, url, name, made_with)
    dense = prepared.task.quick_evaluate(prepared.model, "cpu")
    database = make_database(run, recipe, prepared, pricing.candidates, progress)
    problems = _problems(asked, planned, prepared, pricing, database, dense)
    stop = early_stop(recipe, prepared, dense, largest_drop(problems))
    basis = Basis(prepared, pricing, database, stitched(prepared, database, stop))
    make = MakeEvaluator.of(recipe, run.database, stop, trust=trust)
    ends_s = time.monotonic() + (recipe.search.timeout_s or math.inf)
    with _engine(recipe, basis.evaluator, make) as engine:
        found = run_family(
            problems, engine, strategy=recipe.search.strategy, storage=url, study_name=name,
            trials=recipe.search.trials, more=more, timeout_s=recipe.search.timeout_s,
            seed=recipe.seed, made_with=made_with,
            progress=_beside(pricing.network.dense_latency_s, progress),
        )  # fmt: skip
    _accept(run, recipe, pricing)
    answers = []
    for member, one, problem, best in zip(asked, asked.values(), problems, found, strict=True):
        if isinstance(best, SearchResult):
            best = choose(
                *one, basis, problem, best, storage=url,
                in_time=lambda: time.monotonic() < ends_s, progress=labelled(progress, member),
            )  # fmt: skip
        answers.append(Answer(*one, problem, best))
    return keep_answers(run, recipe, basis, answers, seconds=time.monotonic() - started)


def _accept(run: RunDirectory, recipe: Recipe, pricing: Pricing) -> None:
    """Write what the run is about, now that nothing was refused."""
    write_text(run.recipe, dump_recipe(recipe))
    write_profile(pricing.profile, run.profile)


def _study_of(run: RunDirectory, storage: str | None) -> tuple[str, str]:
    """Storage and name of a run's study; in a storage of many, its folder's name tells it apart."""
    if storage is None:
        return f"sqlite:///{run.study.resolve()}", _STUDY
    return storage, f"{_STUDY}-{run.shared.resolve().name}"


def _made_with(recipe: Recipe, prepared: PreparedModel) -> dict[str, Setting]:
    """What pruned weights and harms come from, besides the task and the choices."""
    settings = recipe.search
    return {
        "checkpoint": prepared.checkpoint,
        "search.criterion": settings.criterion,
        "search.ridge": settings.ridge,
        "search.harm": harm_measure(settings, prepared),
        "search.evidence_batches": settings.evidence_batches,
    }


def _require_answerable(
    recipe: Recipe,
    asked: Mapping[str, tuple[RunDirectory, Recipe]],
    planned: Mapping[str, float | None],
    pricing: Pricing,
    storage: str,
    study: str,
    made_with: Mapping[str, Setting],
) -> None:
    """Refuse what is told without harms: goals out of reach, and a study of something else."""
    require_choices(pricing.candidates)
    questions = {  # before any harm is known: enough to say which latencies can be reached
        name: (goal, _question(goal, pricing, planned[name])) for name, (_, goal) in asked.items()
    }
    first, *_ = (problem for _, problem in questions.values())
    require_gain(first)
    require_all_reachable(questions, pricing)
    require_same_study(
        storage, study, problem=first, strategy=recipe.search.strategy, seed=recipe.seed,
        made_with=made_with,
    )  # fmt: skip


def _require_names(recipe: Recipe, prepared: PreparedModel, storage: str | None) -> None:
    STRATEGIES.create(recipe.search.strategy)
    ENGINES.create(recipe.search.engine)
    require_criterion(recipe.search.criterion)
    require_gradients(recipe.search, prepared)
    if storage is not None:
        require_storage(storage)


def dashboard_command(run: RunDirectory, storage: str | None) -> str:
    """The command that shows the study in Optuna's dashboard, a package of its own."""
    url = f"sqlite:///{run.study}" if storage is None else shown(storage)
    return f"optuna-dashboard {shlex.quote(url)}"


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
    """What a search could reach, from prices alone: each target of a family for itself."""
    goals = recipe.members() or {"": recipe}
    each = {
        name: preflight(_question(goal, pricing, pricing.planned_latency_s(goal)))
        for name, goal in goals.items()
    }
    known, *_ = each.values()
    targets = tuple(
        PreflightTarget(name, target_s, each[name].satisfiable)
        for name, goal in goals.items()
        if (target_s := pricing.target_latency_s(goal)) is not None
    )
    distinct = {target.target_latency_s for target in targets}
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
        target_latency_s=min(distinct, default=None),
        satisfiable=all(target.satisfiable for target in targets) if targets else None,
        targets=targets if len(distinct) > 1 else (),
        margin=recipe.search.margin,
    )


def _question(recipe: Recipe, pricing: Pricing, planned_s: float | None) -> SearchProblem:
    return SearchProblem(
        pricing.options(),
        pricing.network.rest_s,
        dense_metric=0.0,
        max_drop=recipe.goal.max_drop if planned_s is None else None,
        target_latency_s=planned_s,
    )


def _problems(
    asked: Mapping[str, tuple[RunDirectory, Recipe]],
    planned: Mapping[str, float | None],
    prepared: PreparedModel,
    pricing: Pricing,
    database: LayerDatabase,
    dense: float,
) -> list[SearchProblem]:
    return [
        _problem(goal, planned[member], prepared, pricing, database, dense)
        for member, (_, goal) in asked.items()
    ]


def _problem(
    recipe: Recipe,
    target: float | None,
    prepared: PreparedModel,
    pricing: Pricing,
    database: LayerDatabase,
    dense_metric: float,
) -> SearchProblem:
    drop, recovery = recipe.goal.max_drop, 0.0
    if drop is not None and prepared.is_trained_by(recipe):
        recovery = recipe.search.recovery
        # training comes after: a target leaves the floor to it, a floor is relaxed for it
        drop = None if target is not None else drop + recovery
    return SearchProblem(
        pricing.options(database.harm),
        pricing.network.rest_s,
        dense_metric,
        prepared.task.higher_is_better,
        max_drop=drop,
        target_latency_s=target,
        cautious=recipe.search.cautious,
        recovery=recovery,
    )
