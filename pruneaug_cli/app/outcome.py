"""What a search found, as the part of ``result.json`` that it fills (see ``app/results.py``)."""

from collections.abc import Sequence
from typing import Any

from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.pricing import Pricing
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.core import DENSE, LayerChoice, Option
from pruneaug_cli.layers import PrunableLayer
from pruneaug_cli.search import SearchProblem, SearchResult, Trial


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
        "layers": [
            _layer(layer, plan[layer.name], problem.options[layer.name])
            for layer in prepared.layers
        ],
        "skipped": [
            {"name": layer.name, "kind": layer.kind, "reason": layer.reason}
            for layer in prepared.trace.skipped
        ],
        "search": _search(recipe, found),
        "trials": len(found.trials),
        "files": {"plan": "plan.json"},
    }


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
    }


def runner_up(options: Sequence[Option], chosen: Option) -> Option | None:
    """The best option in another block: the fastest that does no more harm than the chosen one.

    None when every other block does more harm, or the layer stays dense.
    """
    others = [
        option
        for option in options
        if option.choice.block != chosen.choice.block
        and not option.choice.is_dense
        and option.harm <= chosen.harm
    ]
    if chosen.choice.is_dense:
        return None
    return min(others, key=lambda o: (o.latency_s, o.harm, o.choice.sort_key), default=None)


def _runner_up(option: Option) -> dict[str, Any]:
    return {
        "block": str(option.choice.block),
        "sparsity": option.choice.sparsity,
        "latency_s": option.latency_s,
        "harm": option.harm,
    }


def _option(options: Sequence[Option], choice: LayerChoice) -> Option:
    return next(option for option in options if option.choice == choice)


def _search(recipe: Recipe, found: SearchResult) -> dict[str, Any]:
    uniform = found.best_uniform
    return {
        "strategy": recipe.search.strategy,
        "chosen": found.best.number,
        "front": [trial.number for trial in found.front],
        "uniform": None if uniform is None else uniform.number,
        "trials": [_trial(trial) for trial in found.trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "origin": trial.origin,
        "predicted_latency_s": trial.predicted_latency_s,
        "metric": trial.metric,
        "seconds": trial.seconds,
    }
