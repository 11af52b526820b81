"""Goals that no plan can meet are refused before anything is spent, in the words of the goal."""

from collections.abc import Mapping
from itertools import pairwise

from pruneaug_cli.app.candidates import Candidates
from pruneaug_cli.app.pricing import Pricing
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.search import SearchProblem, milliseconds, no_less, preflight


def require_choices(candidates: Candidates) -> None:
    """Refuse a search of which every layer must stay dense.

    Raises:
        BudgetError: names the cut that left no other choice.
    """
    for before, after in pairwise(candidates.cuts):
        if after.log10_plans == 0.0:
            left = f"; before it {before.options} were left" if before.log10_plans else ""
            raise BudgetError(
                f"no layer has a choice besides staying dense after the cut {after.name!r}{left}",
                hint="look at the recipe's layers, search.blocks and search.sparsities, or profile "
                "more blocks and sparsities",
            )


def require_gain(problem: SearchProblem) -> None:
    """Refuse a search of which no plan is predicted to be faster than the dense one.

    Raises:
        BudgetError: so it is.
    """
    known = preflight(problem)
    if known.fastest_s >= known.dense_s:
        raise BudgetError(
            "no choice of any layer is predicted to be faster than staying dense",
            hint="profile more blocks and higher sparsities, or look at the recipe's layers, "
            "search.blocks and search.sparsities",
        )


def require_all_reachable(
    asked: Mapping[str, tuple[Recipe, SearchProblem]], pricing: Pricing
) -> None:
    """Refuse latency targets that no plan is predicted to meet.

    Args:
        asked: recipe and question of every goal under its name; "" where there is only one.
        pricing: what speed-ups refer to.

    Raises:
        BudgetError: there are such; names them, and those that can be met.
    """
    found = {name: _why_not(*one, pricing) for name, one in asked.items()}
    refused = {name: error for name, error in found.items() if error is not None}
    if not refused:
        return
    first = next(iter(refused.values()))
    if "" in refused:
        raise first
    others = [name for name in asked if name not in refused]
    can = f"; can be reached: {', '.join(others)}" if others else ""
    raise BudgetError(f"{goals_named(refused)}: {first}", hint=f"{first.hint}{can}")


def goals_named(names: Mapping[str, object]) -> str:
    """``goal 2x``, or ``goals 2x, 3x``."""
    return f"goal{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _why_not(recipe: Recipe, problem: SearchProblem, pricing: Pricing) -> BudgetError | None:
    known, target_s = preflight(problem), pricing.target_latency_s(recipe)
    if known.satisfiable or known.target_s is None or target_s is None:
        return None
    planned = known.target_s / target_s  # the part that the margin leaves of the target
    margin = f" with a margin of {1.0 - planned:.0%}" if planned < 1.0 else ""
    speedup, baseline_s = recipe.goal.target_speedup, pricing.network.dense_latency_s
    if speedup is None:
        least_s = no_less(known.fastest_s / planned)
        found = (
            f"no plan is predicted to take {milliseconds(target_s)} or less{margin}: the fastest "
            f"takes {milliseconds(known.fastest_s)}, the dense one {milliseconds(known.dense_s)}"
        )
        within = f"ask for {milliseconds(least_s)} or more"
    else:
        fastest = baseline_s / known.fastest_s
        found = (
            f"no plan is predicted to be {speedup:g} times as fast as the dense model{margin}: the "
            f"fastest is {fastest:.3g} times"
        )
        # as long as the inverse: 2.49 times asked for are 1 / 0.402 of the latency
        within = f"ask for {1.0 / no_less(known.fastest_s / planned / baseline_s):.3g} or less"
    return BudgetError(found, hint=f"{within}, or profile more blocks and sparsities")
