"""The same block and sparsity for every layer: what one does without a search, and its yardstick.

For each choice (block, sparsity) found in the options there is one plan: every layer that has the
choice takes it, the others stay dense. Within a block the metric is taken to fall with sparsity,
so a few evaluations per block find its best sparsity; the rest follow, fastest first.
"""

from collections.abc import Sequence
from functools import lru_cache

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Plan
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.strategies.contract import Draw, Proposal, Space
from pruneaug_cli.search.strategies.path import Priced, bisect_plans, kept_drop
from pruneaug_cli.search.trial import UNIFORM, Trial, incumbent


class UniformStrategy:
    """Finds the best sparsity of each block, then evaluates the uniform plans that are left."""

    def space(self, problem: SearchProblem) -> Space:
        """No parameters."""
        del problem
        return {}

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """The next uniform plan."""
        del draw
        plan = next_uniform(problem, trials) or next_unseen(problem, trials)
        return None if plan is None else Proposal(plan, UNIFORM)


@lru_cache(maxsize=1)
def uniform_plans(problem: SearchProblem) -> dict[BlockShape, tuple[Priced, ...]]:
    """Per block, its uniform plans with their latencies, fastest first."""
    choices = {option.choice for options in problem.options.values() for option in options}
    ladders: dict[BlockShape, list[Priced]] = {}
    for choice in sorted(choices - {DENSE}, key=lambda choice: choice.sort_key):
        assert choice.block is not None  # noqa: S101  only DENSE has none
        plan = _uniform(problem, choice)
        ladders.setdefault(choice.block, []).append((problem.latency_s(plan), plan))
    return {
        block: tuple(sorted(plans, key=lambda priced: priced[0]))
        for block, plans in sorted(ladders.items())
    }


def next_uniform(problem: SearchProblem, trials: Sequence[Trial]) -> Plan | None:
    """The next plan on the way to the best uniform one, or None when it is found.

    With a latency target: the slowest plan of each block that meets it. Else, per block, bisection
    over its plans between the fastest that kept the drop and the slowest that did not; plans
    slower than the best uniform one so far are not worth asking for.
    """
    ladders = uniform_plans(problem)
    if problem.target_latency_s is not None:
        return _next_within(problem, list(ladders.values()), trials)
    kept = kept_drop(problem, trials)
    uniform = {plan for ladder in ladders.values() for _, plan in ladder}
    best = incumbent(problem, trials, lambda trial: trial.plan in uniform)
    for ladder in ladders.values():
        slower = best.predicted_latency_s if best else float("inf")
        plan = bisect_plans([plan for latency, plan in ladder if latency < slower], kept)
        if plan is not None:
            return plan
    return None


def next_unseen(problem: SearchProblem, trials: Sequence[Trial]) -> Plan | None:
    """The fastest uniform plan that was not evaluated."""
    seen = {trial.plan for trial in trials} | {Plan.dense(problem.layers)}
    plans = [priced for ladder in uniform_plans(problem).values() for priced in ladder]
    for _, plan in sorted(plans, key=lambda priced: priced[0]):
        if plan not in seen:
            return plan
    return None


def _next_within(
    problem: SearchProblem, ladders: list[tuple[Priced, ...]], trials: Sequence[Trial]
) -> Plan | None:
    seen = {trial.plan for trial in trials}
    for ladder in ladders:
        within = [plan for latency, plan in ladder if problem.excess(latency, 0.0) <= 0.0]
        if within and within[-1] not in seen:
            return within[-1]
    return None


def _uniform(problem: SearchProblem, choice: LayerChoice) -> Plan:
    return Plan.of(
        {
            layer: choice if any(o.choice == choice for o in options) else DENSE
            for layer, options in problem.options.items()
        }
    )
