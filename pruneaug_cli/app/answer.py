"""The answer to one question, put into its run's folder: plan, pruned weights, result."""

from dataclasses import dataclass

from pruneaug_cli.app.outcome import result_of_search
from pruneaug_cli.app.plan_weights import save_pruned
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.pricing import Pricing
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.results import Document
from pruneaug_cli.app.run_directory import RunDirectory, StoredPlan
from pruneaug_cli.core import Plan
from pruneaug_cli.evaluation import LayerDatabase, StitchedEvaluator, stitch
from pruneaug_cli.search import SearchProblem, SearchResult

_OF_THE_PLAN = ("sparse", "speedup", "export", "bench", "finetune")
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
    stored = basis.stored(found.best.plan, found.best.predicted_latency_s)
    known = is_stored(run, stored)
    if known:  # what later steps measured of this plan still holds
        news = {key: value for key, value in news.items() if key not in ("dense", "sparse")}
    else:
        store_plan(run, stored, basis)
    drop = () if known else _OF_THE_PLAN
    return run.update_result(news, step="search", seconds=seconds, drop=(*drop, "family"))


def is_stored(run: RunDirectory, stored: StoredPlan) -> bool:
    """Whether an earlier search of this run ended with the same plan, and said so."""
    written = run.plan.exists() and run.pruned.exists() and "sparse" in run.read_result()
    return written and run.read_plan() == stored


def store_plan(run: RunDirectory, stored: StoredPlan, basis: Basis) -> None:
    """Write the plan and the weights pruned by it; weights trained for another plan go."""
    model, database = basis.prepared.model, basis.database
    masks = {
        name: database.entry(name, choice).mask
        for name, choice in stored.plan.items()
        if not choice.is_dense
    }
    with stitch(model, database, stored.plan, batches=basis.evaluator.batches):
        save_pruned(run.pruned, model, masks)
    run.checkpoint.unlink(missing_ok=True)
    run.training_state.unlink(missing_ok=True)
    run.write_plan(stored)
