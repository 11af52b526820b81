"""The search: ask a strategy for a plan, evaluate it, remember it, until the trials are spent.

The next proposal is a function of the problem, the seed and the completed trials. So a search
that was interrupted goes on as if nothing had happened when it is run again, and one seed gives
one plan. A plan that is known is never evaluated again.
"""

import math
import time
from collections.abc import Callable, Sequence

from pruneaug_cli.core import Plan
from pruneaug_cli.errors import TaskError
from pruneaug_cli.progress import Progress, Step, silent
from pruneaug_cli.search.problem import SearchProblem, milliseconds, require_reachable
from pruneaug_cli.search.sampler import Sampler
from pruneaug_cli.search.strategies import STRATEGIES
from pruneaug_cli.search.strategies.contract import Proposal, Strategy
from pruneaug_cli.search.strategies.uniform import uniform_plans
from pruneaug_cli.search.study import Study, open_study, shown
from pruneaug_cli.search.trial import (
    Evaluate,
    SearchResult,
    Trial,
    answer,
    front_of,
    incumbent,
)

_ATTEMPTS = 32  # proposals of known plans in a row after which the space counts as exhausted


def run_search(
    problem: SearchProblem,
    evaluate: Evaluate,
    *,
    strategy: str = "knapsack",
    storage: str,
    study_name: str,
    trials: int,
    timeout_s: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """Search for the plan that answers the problem's question; go on where a study stands.

    Args:
        problem: options per layer, and the question.
        evaluate: measures a plan. What it raises ends the search; its trial is recorded as failed
            and comes again when the search is run again.
        strategy: a name in ``STRATEGIES``.
        storage: database URL of the study.
        study_name: name of the study in it.
        trials: completed trials after which to stop, those of earlier runs included.
        timeout_s: seconds after which no new trial begins.
        seed: decides everything that is drawn.
        progress: told after every trial.
        clock: seconds, for timeout and durations.

    Raises:
        BudgetError: no plan can meet the target, or no trial met the question.
        RunError: the storage cannot be used, or holds a study of another problem.
        TaskError: the evaluation returned something that is not a finite number.
        UnsupportedError: no strategy has this name.
        UsageError: the study was made with another strategy or seed.
    """
    require_reachable(problem)
    chosen = STRATEGIES.create(strategy)
    started = clock()
    with open_study(storage, study_name, problem=problem, strategy=strategy, seed=seed) as study:
        study.sweep()
        known = study.trials()
        before = len(known)
        if known:
            progress(Step("search", before, trials, _news(problem, known)))
        while len(known) < trials and (timeout_s is None or clock() - started < timeout_s):
            proposal = _next_new(chosen, problem, known, seed)
            if proposal is None:
                break
            known.append(_try(study, chosen, problem, proposal, evaluate, clock))
            progress(Step("search", len(known), trials, _news(problem, known)))
    return SearchResult(
        trials=tuple(known),
        best=answer(problem, known),
        front=front_of(problem, known),
        best_uniform=_best_uniform(problem, known),
        evaluations=len(known) - before,
        seconds=clock() - started,
        study_name=study_name,
        storage=shown(storage),
    )


def _next_new(
    strategy: Strategy, problem: SearchProblem, known: Sequence[Trial], seed: int
) -> Proposal | None:
    """A proposal whose plan is not known; None when the strategy has no more to give."""
    seen = {trial.plan for trial in known} | {Plan.dense(problem.layers)}
    for attempt in range(_ATTEMPTS):
        draw = Sampler(seed=seed, known=len(known), attempt=attempt)
        proposal = strategy.propose(problem, known, draw)
        if proposal is None or proposal.plan not in seen:
            return proposal
    return None


def _try(
    study: Study,
    strategy: Strategy,
    problem: SearchProblem,
    proposal: Proposal,
    evaluate: Evaluate,
    clock: Callable[[], float],
) -> Trial:
    latency_s = problem.latency_s(proposal.plan)
    key = study.begin(proposal, latency_s, strategy.space(problem))
    started = clock()
    try:
        metric = float(evaluate(proposal.plan))
        if not math.isfinite(metric):
            raise TaskError(  # noqa: TRY301  fails the trial as any other failure
                f"the evaluation of a plan returned {metric}, expected a finite number",
                hint="check evaluate() of the task on the pruned model",
            )
    except BaseException:  # an interrupt too: the trial has no result, and comes again
        study.fail(key)
        raise
    return study.complete(
        key,
        proposal,
        predicted_latency_s=latency_s,
        metric=metric,
        seconds=clock() - started,
    )


def _best_uniform(problem: SearchProblem, known: Sequence[Trial]) -> Trial | None:
    uniform = {plan for ladder in uniform_plans(problem).values() for _, plan in ladder}
    return incumbent(problem, [trial for trial in known if trial.plan in uniform])


def _news(problem: SearchProblem, known: Sequence[Trial]) -> str:
    best = incumbent(problem, known)
    if best is None:
        return "nothing meets the goal yet"
    return f"best {milliseconds(best.predicted_latency_s)}, metric {best.metric:.4g}"
