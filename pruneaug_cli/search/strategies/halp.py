r"""HALP's way: many small steps under latency budgets that fall exponentially.

.. math::
    \max \sum_l I_l(p_l) \quad \text{subject to} \quad \sum_l T_l(p_l) \le C_k , \qquad
    C_k = C_0 \, (C_K / C_0)^{k / K}

``C_0`` is the dense plan's latency, ``C_K`` the fastest plan's. A step prunes on from the plan
before it: what is removed stays removed, so a layer that has a block keeps it and never becomes
less sparse. Within a budget the knapsack decides what importance per latency is worth: exactly,
as the importance kept is the harm not done.

References:
    Shen et al., "Structural Pruning via Latency-Saliency Knapsack", NeurIPS 2022
    (arXiv:2110.10811). There the items are groups of channels, their importance comes from
    first-order Taylor terms and is measured again after every step of a training run; latencies
    depend on the layer before. Here the items are a layer's options, importance is its harm from
    the database, latencies add up, and nothing is trained: the steps are searched for the
    one at which the constraint binds.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pruneaug_cli.core import DENSE, Option, Plan
from pruneaug_cli.search.knapsack import solve_knapsack
from pruneaug_cli.search.problem import SearchProblem, cut
from pruneaug_cli.search.strategies.contract import Draw, Proposal, Space
from pruneaug_cli.search.strategies.path import Priced, next_on_path, path_of
from pruneaug_cli.search.trial import Trial

HALP = "halp"
STEPS = 60
_TICKS = 2000


class HalpStrategy:
    """Finds the step at which the constraint binds."""

    def space(self, problem: SearchProblem) -> Space:
        """No parameters."""
        del problem
        return {}

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """The plan of the next step to evaluate."""
        del draw
        plan = next_on_path(problem, halp_path(problem), trials)
        return None if plan is None else Proposal(plan, HALP)


@lru_cache(maxsize=1)
def halp_path(problem: SearchProblem) -> tuple[Priced, ...]:
    """The plans of all steps, fastest first; ends where no step keeps within its budget."""
    fastest_s = sum(row[0].latency_s for row in cut(problem).values())
    current = {
        layer: next(option for option in row if option.choice == DENSE)
        for layer, row in problem.options.items()
    }
    dense_s = sum(option.latency_s for option in current.values())
    plans = []
    for budget_s in np.geomspace(dense_s, max(fastest_s, 1e-3 * dense_s), STEPS + 1)[1:]:
        step = _step(problem, current, float(budget_s))
        if step is None:
            break
        current = step
        plans.append(Plan.of({layer: option.choice for layer, option in current.items()}))
    return path_of(problem, plans)


def _step(
    problem: SearchProblem, current: dict[str, Option], budget_s: float
) -> dict[str, Option] | None:
    """The least harmful plan within the budget that prunes on from ``current``."""
    rows = [
        [option for option in row if _prunes_on(current[layer], option)]
        for layer, row in problem.options.items()
    ]
    table = solve_knapsack(
        [np.array([option.latency_s for option in row]) for row in rows],
        [np.array([option.harm for option in row]) for row in rows],
        ticks=_TICKS,
    )
    chosen = table.choose(budget_s)
    if chosen is None:
        return None
    return {layer: row[i] for layer, row, i in zip(current, rows, chosen, strict=True)}


def _prunes_on(before: Option, after: Option) -> bool:
    if before.choice.is_dense:
        return True
    same_block = before.choice.block == after.choice.block
    return same_block and after.choice.sparsity >= before.choice.sparsity
