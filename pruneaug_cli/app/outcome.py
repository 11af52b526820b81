"""What a search found, as the part of ``result.json`` that it fills (see ``app/results.py``)."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.pricing import Pricing
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.core import DENSE, LayerChoice, Option
from pruneaug_cli.layers import PrunableLayer
from pruneaug_cli.search import (
    Learnt,
    SearchProblem,
    SearchResult,
    Trial,
    learnt_coefficients,
    preflight,
)


def result_of_search(
    recipe: Recipe,
    prepared: PreparedModel,
    pricing: Pricing,
    problem: SearchProblem,
    found: SearchResult,
) -> dict[str, Any]:
    """Everything a report needs to know of a search."""
    plan = found.best.plan
    return {
        "task": prepared.task.address,
        "platform": pricing.profile.name,
        "seed": recipe.seed,
        "checkpoint": prepared.checkpoint,
        "higher_is_better": prepared.task.higher_is_better,
        "goal": {
            "max_drop": recipe.goal.max_drop,
            "target_latency_s": pricing.target_latency_s(recipe),
            "target_speedup": recipe.goal.target_speedup,
        },
        "dense": {"metric": problem.dense_metric, "latency_s": pricing.network.dense_latency_s},
        "sparse": {"metric": found.best.metric},
        "predicted_latency_s": found.best.predicted_latency_s,
        "predicted_speedup": pricing.network.dense_latency_s / found.best.predicted_latency_s,
        "plan": plan.to_json(),
        "layers": _layers(recipe, prepared, problem, found),
        "skipped": [
            {"name": layer.name, "kind": layer.kind, "reason": layer.reason}
            for layer in prepared.trace.skipped
        ],
        "space": _space(pricing, problem),
        "search": _search(recipe, problem, found),
        "trials": len(found.trials),
        "files": {"plan": "plan.json"},
    }


def _space(pricing: Pricing, problem: SearchProblem) -> list[dict[str, Any]]:
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
    recipe: Recipe, prepared: PreparedModel, problem: SearchProblem, found: SearchResult
) -> list[dict[str, Any]]:
    learnt = {}
    if recipe.search.strategy == "knapsack":  # the strategy that has coefficients
        learnt = learnt_coefficients(problem, found.trials)
    plan = found.best.plan
    return [
        {
            **_layer(layer, plan[layer.name], problem.options[layer.name]),
            "coefficient": _coefficient(learnt.get(layer.name)),
        }
        for layer in prepared.layers
    ]


def _layer(layer: PrunableLayer, choice: LayerChoice, options: Sequence[Option]) -> dict[str, Any]:
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
    """What would have been chosen without the chosen block: the fastest that does no more harm.

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


def _runner_up(option: Option) -> dict[str, Any]:
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


def _search(recipe: Recipe, problem: SearchProblem, found: SearchResult) -> dict[str, Any]:
    uniform = found.best_uniform
    return {
        "strategy": recipe.search.strategy,
        "harm": recipe.search.harm,
        "max_drop": problem.max_drop,
        "target_latency_s": problem.target_latency_s,
        "chosen": found.best.number,
        "front": [trial.number for trial in found.front],
        "uniform": None if uniform is None else uniform.number,
        "finalists": [{"trial": f.trial, "metric": f.metric} for f in found.finalists],
        "trials": [_trial(trial) for trial in found.trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "origin": trial.origin,
        "predicted_latency_s": trial.predicted_latency_s,
        "metric": trial.metric,
        "seconds": trial.seconds,
        "samples": None if trial.partial is None else trial.partial.samples,
    }
