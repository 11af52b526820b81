"""The answer to one question, put into its run's folder: plan, pruned weights, result."""

from dataclasses import dataclass

from pruneaug_cli.app.margin import steps
from pruneaug_cli.app.outcome import result_of_search
from pruneaug_cli.app.plan_weights import save_pruned
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.pricing import Pricing
from pruneaug_cli.app.recipe import Recipe, dump_recipe
from pruneaug_cli.app.results import Document
from pruneaug_cli.app.run_directory import RunDirectory, StoredPlan
from pruneaug_cli.core import Plan
from pruneaug_cli.evaluation import LayerDatabase, StitchedEvaluator, stitch
from pruneaug_cli.files import write_text
from pruneaug_cli.platforms import write_profile
from pruneaug_cli.search import SearchProblem, SearchResult, Trial

OF_THE_PLAN = ("sparse", "speedup", "export", "bench", "finetune")
"""What does not hold any more when another plan is chosen."""


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What the answers to all questions of a study rest on."""

    prepared: PreparedModel
    pricing: Pricing
    database: LayerDatabase
    evaluator: StitchedEvaluator

    def stored(self, plan: Plan, predicted_latency_s: float) -> StoredPlan:
        """A plan with what it was searched for."""
        return StoredPlan(
            plan, predicted_latency_s, self.prepared.checkpoint, self.pricing.digest()
        )


def keep_answer(
    run: RunDirectory,
    recipe: Recipe,
    basis: Basis,
    problem: SearchProblem,
    found: SearchResult,
    *,
    seconds: float,
) -> Document:
    """Leave plan, pruned weights and result of an answer in its run's folder."""
    news = result_of_search(recipe, basis.prepared, basis.pricing, problem, found)
    return keep_plan(run, recipe, basis, found.best, news, seconds=seconds)


def keep_plan(
    run: RunDirectory,
    recipe: Recipe,
    basis: Basis,
    best: Trial,
    news: Document,
    *,
    seconds: float,
) -> Document:
    """Leave the plan of a trial in a run's folder; ``news`` is what its result says of it.

    A member of a family gets its own recipe and profile: all that later steps need.
    """
    if run.family is not None:
        write_text(run.recipe, dump_recipe(recipe))
        write_profile(basis.pricing.profile, run.profile)
        news = {**news, "member": run.path.name}
    drop: tuple[str, ...] = () if run.family is not None else ("family", "unanswered")
    if not steps(run, recipe, basis.pricing):
        drop = (*drop, "tightened")
    stored = basis.stored(best.plan, best.predicted_latency_s)
    if _is_stored(run, stored):  # what later steps measured of this plan still holds
        news = {key: value for key, value in news.items() if key not in ("dense", "sparse")}
    else:
        _store(run, stored, basis)
        drop = (*drop, *OF_THE_PLAN)
    return run.update_result(news, step="search", seconds=seconds, drop=drop)


def _is_stored(run: RunDirectory, stored: StoredPlan) -> bool:
    """Whether an earlier search of this run ended with the same plan, and said so to the end."""
    said = run.plan.exists() and run.pruned.exists() and run.read_result().get("plan")
    return said == stored.plan.to_json() and run.read_plan() == stored


def _store(run: RunDirectory, stored: StoredPlan, basis: Basis) -> None:
    """Write the plan and the weights pruned by it; weights trained for another plan go."""
    model, database = basis.prepared.model, basis.database
    masks = {
        name: database.entry(name, choice).mask
        for name, choice in stored.plan.items()
        if not choice.is_dense
    }
    with stitch(model, database, stored.plan, correction=basis.evaluator.correction):
        save_pruned(run.pruned, model, masks)
    run.checkpoint.unlink(missing_ok=True)
    run.training_state.unlink(missing_ok=True)
    run.write_plan(stored)
