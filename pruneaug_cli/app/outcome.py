"""What a search found, as the part of ``result.json`` that it fills (see ``app/results.py``)."""

import math
from collections.abc import Sequence
from dataclasses import asdict

from pruneaug_cli.app.database import harm_measure
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.pricing import Pricing
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.results import Document
from pruneaug_cli.core import DENSE, LayerChoice, Option, Plan
from pruneaug_cli.layers import PrunableLayer
from pruneaug_cli.search import (
    ROUNDING,
    Learnt,
    SearchProblem,
    SearchResult,
    Trial,
    expected_drop,
    learnt_coefficients,
    preflight,
)


def result_of_search(
    recipe: Recipe,
    prepared: PreparedModel,
    pricing: Pricing,
    problem: SearchProblem,
    found: SearchResult,
) -> Document:
    """Everything a report needs to know of a search."""
    return {
        **result_of_study(recipe, prepared, pricing, problem, found),
        **result_of_plan(recipe, prepared, pricing, problem, found.best, found.trials),
        "search": {
            **_study(recipe, prepared, found),
            "max_drop": problem.max_drop,
            "target_latency_s": problem.target_latency_s,
            "cautious": problem.cautious,
            "chosen": found.best.number,
            "uniform": None if found.best_uniform is None else found.best_uniform.number,
            "finalists": _finalists(found),
            "finalists_untrained": found.finalists_untrained,
        },
    }


def result_of_study(
    recipe: Recipe,
    prepared: PreparedModel,
    pricing: Pricing,
    problem: SearchProblem,
    found: SearchResult,
) -> Document:
    """What holds whatever the question was."""
    return {
        **result_of_task(recipe, prepared, pricing),
        "dense": {"metric": problem.dense_metric, "latency_s": pricing.network.dense_latency_s},
        "space": _space(pricing, problem),
        "search": _study(recipe, prepared, found),
        "trials": len(found.trials),
    }


def result_of_task(recipe: Recipe, prepared: PreparedModel, pricing: Pricing) -> Document:
    """What is known without a search."""
    return {
        "task": prepared.task.address,
        "platform": pricing.profile.name,
        "seed": recipe.seed,
        "checkpoint": prepared.checkpoint,
        "higher_is_better": prepared.task.higher_is_better,
        "trainable": prepared.task.has("train_batches"),
        "skipped": [
            {"name": layer.name, "kind": layer.kind, "reason": layer.reason}
            for layer in prepared.trace.skipped
        ],
    }


def result_of_plan(
    recipe: Recipe,
    prepared: PreparedModel,
    pricing: Pricing,
    problem: SearchProblem,
    best: Trial,
    trials: Sequence[Trial] = (),
) -> Document:
    """What was chosen, for which goal; ``trials`` say what was learnt of the layers."""
    return {
        "goal": {
            "max_drop": recipe.goal.max_drop,
            "target_latency_s": pricing.target_latency_s(recipe),
            "target_speedup": recipe.goal.target_speedup,
        },
        "sparse": {"metric": best.metric},
        "expected_drop": expected_drop(problem, trials, best),
        "predicted_latency_s": best.predicted_latency_s,
        "predicted_speedup": pricing.network.dense_latency_s / best.predicted_latency_s,
        "plan": best.plan.to_json(),
        "harm": harm_measure(recipe.search, prepared),
        "layers": _layers(recipe, prepared, problem, best.plan, trials),
        "files": {"plan": "plan.json"},
    }


def drop_of(document: Document) -> float | None:
    """By how much the metric fell, positive when worse; None before it is known."""
    dense, sparse = (document.get(model, {}).get("metric") for model in ("dense", "sparse"))
    if dense is None or sparse is None:
        return None
    return float(dense - sparse if document["higher_is_better"] else sparse - dense)


def slowness(document: Document) -> float | None:
    """Measured latency over the one that the goal allows; None without a target or a measurement.

    A speed-up is asked for beside the dense model as it was timed in the same minutes.
    """
    goal, speedup = document["goal"], document.get("speedup")
    if speedup is None or goal["target_latency_s"] is None:
        return None
    if goal["target_speedup"] is not None:
        return float(goal["target_speedup"] / speedup)
    return float(document["sparse"]["latency_s"] / goal["target_latency_s"])


def misses(document: Document) -> list[str]:
    """In what the measured result misses its goal; the drop is the validation metric's."""
    goal, drop, slow = document["goal"], drop_of(document), slowness(document)
    found = []
    if goal["max_drop"] is not None and drop is not None:
        rounding = ROUNDING * abs(document["dense"]["metric"])
        if drop > goal["max_drop"] + rounding:
            found.append(f"the metric fell by {drop:.4g}, more than {goal['max_drop']:g}")
    if slow is not None and slow > 1.0 and goal["target_speedup"] is not None:
        found.append(
            f"the measured speed-up is {document['speedup']:.2f}, less than "
            f"{goal['target_speedup']:g}"
        )
    elif slow is not None and slow > 1.0:
        found.append(
            f"the measured latency is {document['sparse']['latency_s'] * 1e3:.3g} ms, more than "
            f"{goal['target_latency_s'] * 1e3:.3g} ms"
        )
    return found


def judged(document: Document) -> Document:
    """The document of a run with ``missed``, once both files were timed.

    Never kept in a file: another goal may be asked of the same plan.
    """
    return {**document, "missed": misses(document)} if "speedup" in document else document


def _space(pricing: Pricing, problem: SearchProblem) -> list[Document]:
    """What is left after each cut; last, what is left when harm is known too."""
    known = preflight(problem)
    return [
        *(asdict(cut) for cut in pricing.candidates.cuts),
        {
            "name": "not dominated in latency and harm",
            "options": known.options_kept,
            "log10_plans": known.log10_plans_kept,
        },
    ]


def _layers(
    recipe: Recipe,
    prepared: PreparedModel,
    problem: SearchProblem,
    plan: Plan,
    trials: Sequence[Trial],
) -> list[Document]:
    learnt = {}
    if trials and recipe.search.strategy == "knapsack":  # the strategy that has coefficients
        learnt = learnt_coefficients(problem, trials)
    return [
        {
            **_layer(layer, plan[layer.name], problem.options[layer.name]),
            "coefficient": _coefficient(learnt.get(layer.name)),
        }
        for layer in prepared.layers
    ]


def _layer(layer: PrunableLayer, choice: LayerChoice, options: Sequence[Option]) -> Document:
    chosen = _option(options, choice)
    dense = _option(options, DENSE)
    other = runner_up(options, chosen)
    return {
        "name": layer.name,
        "geometry": str(layer.geometry),
        "uses": layer.uses,
        "dense_latency_s": dense.latency_s,
        "latency_s": chosen.latency_s,
        "harm": chosen.harm,
        "runner_up": None if other is None else _runner_up(other),
        "options": _by_block(options),
    }


def runner_up(options: Sequence[Option], chosen: Option) -> Option | None:
    """The fastest option of another block that does the layer no more harm.

    That may be to leave the layer dense, which does none. None when the layer is dense already.
    """
    if chosen.choice.is_dense:
        return None
    others = [
        option
        for option in options
        if option.choice.block != chosen.choice.block and option.harm <= chosen.harm
    ]
    return min(others, key=lambda o: (o.latency_s, o.harm, o.choice.sort_key))


def _runner_up(option: Option) -> Document:
    block = option.choice.block
    return {
        "block": None if block is None else str(block),
        "sparsity": option.choice.sparsity,
        "latency_s": option.latency_s,
        "harm": option.harm,
    }


def _by_block(options: Sequence[Option]) -> dict[str, dict[str, list[float]]]:
    """Options as columns of numbers, by block, in rising sparsity; the dense one is left out."""
    blocks: dict[str, dict[str, list[float]]] = {}
    for option in sorted(options, key=lambda option: option.choice.sort_key):
        if option.choice.block is not None:
            empty: dict[str, list[float]] = {"sparsity": [], "harm": [], "latency_s": []}
            columns = blocks.setdefault(str(option.choice.block), empty)
            columns["sparsity"].append(option.choice.sparsity)
            columns["harm"].append(option.harm)
            columns["latency_s"].append(option.latency_s)
    return blocks


def _coefficient(learnt: Learnt | None) -> dict[str, float] | None:
    if learnt is None:
        return None
    return {"value": learnt.value, "low": learnt.low, "high": learnt.high}


def _option(options: Sequence[Option], choice: LayerChoice) -> Option:
    return next(option for option in options if option.choice == choice)


def _study(recipe: Recipe, prepared: PreparedModel, found: SearchResult) -> Document:
    return {
        "strategy": recipe.search.strategy,
        "harm": harm_measure(recipe.search, prepared),
        "evaluations": found.evaluations,
        "left_out": found.left_out,
        "front": [trial.number for trial in found.front],
        "trials": [_trial(trial) for trial in found.trials],
    }


def _finalists(found: SearchResult) -> list[Document]:
    before = {trial.number: trial.metric for trial in found.trials}
    return [
        {
            "trial": f.trial,
            "metric_before": before[f.trial],
            "metric_after": f.metric if math.isfinite(f.metric) else None,
        }
        for f in found.finalists
    ]


def _trial(trial: Trial) -> Document:
    return {
        "number": trial.number,
        "origin": trial.origin,
        "predicted_latency_s": trial.predicted_latency_s,
        "metric": trial.metric,
        "divergence": trial.divergence,
        "seconds": trial.seconds,
        "samples": None if trial.partial is None else trial.partial.samples,
        "of": None if trial.partial is None else trial.partial.of,
    }
