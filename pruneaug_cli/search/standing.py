"""What a search tells whoever watches it, from what its study knows."""

from collections.abc import Sequence
from functools import lru_cache

from pruneaug_cli.core import Plan
from pruneaug_cli.progress import Flight, Found, Standing
from pruneaug_cli.search.problem import SearchProblem, milliseconds
from pruneaug_cli.search.strategies.uniform import uniform_plans
from pruneaug_cli.search.study import Record
from pruneaug_cli.search.trial import Trial, front_of, incumbent


def standing_of(problem: SearchProblem, record: Record) -> Standing:
    """The best so far, the front, and what is in flight."""
    return Standing(
        best=_found(problem, incumbent(problem, record.known)),
        uniform=_found(problem, best_uniform(problem, record.known)),
        front=tuple(_shown(problem, trial) for trial in front_of(problem, record.known)),
        flights=tuple(
            Flight(begun.number, begun.proposal.origin, begun.predicted_latency_s)
            for begun in record.running
        ),
        max_drop=problem.max_drop,
        target_latency_s=problem.target_latency_s,
    )


def news(standing: Standing) -> str:
    """The same in a few words."""
    best = standing.best
    if best is None:
        return "nothing meets the goal yet" if standing.front else ""
    return f"best {milliseconds(best.latency_s)}, metric {best.metric:.4g}"


def best_uniform(problem: SearchProblem, known: Sequence[Trial]) -> Trial | None:
    """The answer among the plans that give every layer the same choice."""
    uniform = _uniform(problem)
    return incumbent(problem, known, lambda t: _is_alike(t.plan) and t.plan in uniform)


@lru_cache(maxsize=4)
def _uniform(problem: SearchProblem) -> frozenset[Plan]:
    return frozenset(plan for ladder in uniform_plans(problem).values() for _, plan in ladder)


def _is_alike(plan: Plan) -> bool:
    """Whether no two layers are pruned in unlike ways: seen sooner than a plan is hashed."""
    pruned = (choice for _, choice in plan.items() if not choice.is_dense)
    first = next(pruned, None)
    return all(choice == first for choice in pruned)


def _found(problem: SearchProblem, trial: Trial | None) -> Found | None:
    return None if trial is None else _shown(problem, trial)


def _shown(problem: SearchProblem, trial: Trial) -> Found:
    return Found(trial.number, trial.predicted_latency_s, trial.metric, problem.drop(trial.metric))
