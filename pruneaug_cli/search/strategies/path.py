"""Search along a path: plans from fast to slow, in which the metric is taken to rise.

Several strategies fix in advance which plans they would ever use, one for each latency; what is
left to find is where on the path the question's constraint binds. Bisection finds that; plans
around that place follow, because the metric need not rise strictly.
"""

from collections.abc import Iterable, Mapping, Sequence

from pruneaug_cli.core import Plan
from pruneaug_cli.search.judged import judged_drops
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.trial import Trial

Priced = tuple[float, Plan]
"""A plan and its predicted latency, seconds."""


def path_of(problem: SearchProblem, plans: Iterable[Plan]) -> tuple[Priced, ...]:
    """The plans without the dense one and without repetition, fastest first."""
    distinct = dict.fromkeys(plans)
    distinct.pop(Plan.dense(problem.layers), None)
    priced = ((problem.latency_s(plan), plan) for plan in distinct)
    return tuple(sorted(priced, key=lambda priced: priced[0]))


def next_on_path(
    problem: SearchProblem, path: Sequence[Priced], trials: Sequence[Trial]
) -> Plan | None:
    """The next plan to evaluate, or None when all of the path is known.

    With a latency target: from the slowest plan that meets it to faster ones, then those slower.
    Else bisection for the fastest plan that keeps the drop, then its neighbours, nearest first.
    """
    plans = [plan for _, plan in path]
    if problem.target_latency_s is None:
        kept = kept_drop(problem, trials)
        if (plan := bisect_plans(plans, kept)) is not None:
            return plan
        passed = (index for index, plan in enumerate(plans) if kept.get(plan) is True)
        place = min(passed, default=len(plans))
    else:
        place = sum(problem.excess(latency_s, 0.0) <= 0.0 for latency_s, _ in path)
    seen = {trial.plan for trial in trials}
    unseen = (index for index, plan in enumerate(plans) if plan not in seen)
    # what lies before the place would be the better answer: it comes first where that is known
    slower = 0 if problem.target_latency_s is None else len(plans)
    nearest = min(
        unseen, key=lambda i: place - i if i < place else i - place + slower, default=None
    )
    return None if nearest is None else plans[nearest]


def kept_drop(problem: SearchProblem, trials: Sequence[Trial]) -> dict[Plan, bool]:
    """Which of the plans evaluated keep the constraint."""
    judged = zip(trials, judged_drops(problem, trials), strict=True)
    return {t.plan: problem.excess(t.predicted_latency_s, drop) <= 0.0 for t, drop in judged}


def bisect_plans(plans: Sequence[Plan], kept: Mapping[Plan, bool]) -> Plan | None:
    """The plan that halves what is unknown of ``plans``, fastest first; None when all is known."""
    failed = [index for index, plan in enumerate(plans) if kept.get(plan) is False]
    passed = [index for index, plan in enumerate(plans) if kept.get(plan) is True]
    low, high = max(failed, default=-1), min(passed, default=len(plans))
    return plans[(low + high) // 2] if high - low > 1 else None
