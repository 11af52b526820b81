"""What the search plans for: the target less a margin, which a measurement corrects.

A prediction may be wrong by more than the recipe's margin. When the exported plan is slower than
its target, the next plan is asked for with the error that this one had:

    planned latency  =  predicted latency of the plan · (allowed / measured latency) · (1 - slack)

``tightened`` in a run's result keeps every such step, oldest first: {target_latency_s, profile,
predicted_latency_s, latency_s, speedup, planned_latency_s, reason}. It holds for the same target
under the same prices; ``reason``: why no plan was found so, null when one was.
"""

from collections.abc import Mapping
from typing import Any

from pruneaug_cli.app.outcome import slowness
from pruneaug_cli.app.pricing import Pricing
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.run_directory import RunDirectory

TIMES = 2
"""How often a target is tightened at most."""

_SLACK = 0.01  # two benches of a file differ by about as much


def planned_latency_s(run: RunDirectory, recipe: Recipe, pricing: Pricing) -> float | None:
    """The predicted latency that a plan may have; None without a latency target."""
    planned_s = pricing.planned_latency_s(recipe)
    found = [step for step in steps(run, recipe, pricing) if step["reason"] is None]
    return float(found[-1]["planned_latency_s"]) if found else planned_s


def steps(run: RunDirectory, recipe: Recipe, pricing: Pricing) -> list[dict[str, Any]]:
    """How the target was tightened so far; what was measured for another target does not count."""
    target_s = pricing.target_latency_s(recipe)
    return [
        step
        for step in run.read_result().get("tightened", ())
        if step["target_latency_s"] == target_s and step["profile"] == pricing.digest()
    ]


def may_tighten(run: RunDirectory, recipe: Recipe, pricing: Pricing) -> bool:
    """Whether there is a target, and another step towards it is allowed."""
    earlier = steps(run, recipe, pricing)
    has_target = pricing.target_latency_s(recipe) is not None
    return has_target and len(earlier) < TIMES and all(step["reason"] is None for step in earlier)


def tighter(
    run: RunDirectory, recipe: Recipe, pricing: Pricing, measured: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The step that a measurement asks for; None when it asks for nothing.

    ``measured``: the document of a run, with ``speedup`` and ``sparse.latency_s``.
    """
    slow = slowness(dict(measured))
    if slow is None or slow <= 1.0 or not may_tighten(run, recipe, pricing):
        return None
    predicted_s = run.read_plan().predicted_latency_s
    return {
        "target_latency_s": pricing.target_latency_s(recipe),
        "profile": pricing.digest(),
        "predicted_latency_s": predicted_s,
        "latency_s": measured["sparse"]["latency_s"],
        "speedup": measured["speedup"],
        "planned_latency_s": predicted_s / slow * (1.0 - _SLACK),
        "reason": None,
    }


def write_step(
    run: RunDirectory, recipe: Recipe, pricing: Pricing, step: Mapping[str, Any]
) -> None:
    """Keep a step, once the study was asked again; with a ``reason`` the plan before it stays."""
    run.update_result({"tightened": [*steps(run, recipe, pricing), dict(step)]})
