"""One question asked of a study, or several: plans for a family of targets from the same trials.

A study is neutral to the question, so what was measured for one answers the others too.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence

from pruneaug_cli.errors import BudgetError, TaskError
from pruneaug_cli.files import digest_text
from pruneaug_cli.progress import Progress, silent
from pruneaug_cli.search.engine import Engine, Here
from pruneaug_cli.search.identity import NOTHING, Setting
from pruneaug_cli.search.problem import SearchProblem, largest_drop, require_reachable
from pruneaug_cli.search.run import Search
from pruneaug_cli.search.standing import best_uniform
from pruneaug_cli.search.storage import shown
from pruneaug_cli.search.strategies import STRATEGIES
from pruneaug_cli.search.study import Record, Study, open_study
from pruneaug_cli.search.trial import Evaluate, SearchResult, answer, front_of


def run_search(
    problem: SearchProblem,
    evaluate: Evaluate | Engine,
    *,
    strategy: str = "knapsack",
    storage: str,
    study_name: str,
    trials: int,
    timeout_s: float | None = None,
    seed: int = 0,
    made_with: Mapping[str, Setting] = NOTHING,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """Search for the plan that answers the problem's question; go on where a study stands.

    Args:
        problem: options per layer, and the question.
        evaluate: measures a plan: a function, called here, or an engine with workers. What it
            raises ends the search; its trial is recorded as failed and comes again when the search
            is run again. A worker that dies does not: its plan goes to another.
        strategy: a name in ``STRATEGIES``.
        storage: database URL of the study.
        study_name: name of the study in it. Several processes may search in one study.
        trials: completed trials after which to stop, those of others and of earlier runs included.
        timeout_s: seconds after which no new trial begins.
        seed: decides everything that is drawn.
        made_with: by name, what else harms and metrics come from; a study of others is refused.
        progress: told after every trial.
        clock: seconds, for timeout and durations.

    Raises:
        BudgetError: no plan can meet the target, or no trial met the question.
        RunError: the storage cannot be used, or holds a study of another problem.
        TaskError: plan after plan has no metric, or all of few have none.
        UnsupportedError: no strategy has this name; or worker after worker died.
        UsageError: the study was made with another strategy or seed, or other settings.
    """
    (found,) = run_family(
        (problem,),
        evaluate,
        strategy=strategy,
        storage=storage,
        study_name=study_name,
        trials=trials,
        timeout_s=timeout_s,
        seed=seed,
        made_with=made_with,
        progress=progress,
        clock=clock,
    )
    if isinstance(found, BudgetError):
        raise found
    return found


def run_family(
    problems: Sequence[SearchProblem],
    evaluate: Evaluate | Engine,
    *,
    strategy: str = "knapsack",
    storage: str,
    study_name: str,
    trials: int,
    more: int = 0,
    timeout_s: float | None = None,
    seed: int = 0,
    made_with: Mapping[str, Setting] = NOTHING,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[SearchResult | BudgetError, ...]:
    """Search in one study for the plans that answer several questions about the same options.

    The questions are asked one after the other, the hardest first (the fastest target, the least
    drop), so that its plans answer the others too. Each begins with everything measured before,
    and may evaluate an equal share of what is left of ``trials``; all are answered from all trials.

    Args:
        problems: the same options, with one question each.
        evaluate: as in :func:`run_search`, with all that it raises.
        strategy: a name in ``STRATEGIES``.
        storage: database URL of the study.
        study_name: name of the study in it.
        trials: completed trials of the study after which to stop, for all questions together.
        more: instead of ``trials``, how many trials to add to those that are complete now.
        timeout_s: seconds after which no new trial begins, for all questions together.
        seed: decides everything that is drawn.
        made_with: by name, what else harms and metrics come from; a study of others is refused.
        progress: told after every trial.
        clock: seconds, for timeout and durations.

    Returns:
        For each problem what was found, or why no trial answers it; the others hold all the same.

    Raises:
        ValueError: the problems differ in more than their question.
        BudgetError: no plan can meet one of the targets.
    """
    for problem in problems:
        require_reachable(problem)
    _require_same_options(problems)
    chosen = STRATEGIES.create(strategy)
    engine = Here(evaluate, clock) if callable(evaluate) else evaluate
    started = clock()
    deadline = math.inf if timeout_s is None else started + timeout_s
    evaluations = dict.fromkeys(range(len(problems)), 0)
    first = problems[0]
    with open_study(
        storage, study_name, problem=first, strategy=strategy, seed=seed,
        made_with=made_with, largest_drop=largest_drop(problems),
    ) as study:  # fmt: skip
        trials = len(study.record().known) + more if more else trials
        known = _known_at_first(study, problems, trials)
        for turn, index in enumerate(sorted(evaluations, key=lambda i: _ease(problems[i])), 1):
            search = Search(study, chosen, problems[index], engine, seed, trials)
            # whole shares of what was left when these questions were first asked: who goes on
            # after an interruption divides as before
            share = known + math.ceil(max(trials - known, 0) * turn / len(problems))
            search.run(share, lambda: deadline - clock(), progress)
            evaluations[index] = search.evaluations
        record = study.record()
        _require_metric(study, record)
    seconds, place = clock() - started, shown(storage)
    return tuple(
        _answered(problem, record, evaluations[index], seconds, study_name, place)
        for index, problem in enumerate(problems)
    )


def _require_same_options(problems: Sequence[SearchProblem]) -> None:
    if len({problem.fingerprint() for problem in problems}) != 1:
        raise ValueError("a family has one or more questions about the same options")


def _require_metric(study: Study, record: Record) -> None:
    if record.barred and not record.known:
        study.forgive()
        raise TaskError(
            f"no plan has a metric: the evaluation of all {len(record.barred)} that were tried "
            "killed its worker, or was not finite",
            hint="check evaluate() of the task on a pruned model",
        )


def _known_at_first(study: Study, problems: Sequence[SearchProblem], trials: int) -> int:
    """How many trials were complete when these questions were first asked of the study."""
    if len(problems) == 1:
        return 0
    questions = [f"{p.max_drop} {p.target_latency_s}" for p in problems]
    return study.known_at_first(digest_text(str(trials), *sorted(questions)))


def _ease(problem: SearchProblem) -> tuple[float, float]:
    """Least for the question that is hardest to meet."""
    target_s, drop = problem.target_latency_s, problem.max_drop
    return (math.inf if target_s is None else target_s, math.inf if drop is None else drop)


def _answered(
    problem: SearchProblem,
    record: Record,
    evaluations: int,
    seconds: float,
    study_name: str,
    storage: str,
) -> SearchResult | BudgetError:
    try:
        best = answer(problem, record.known)
    except BudgetError as error:
        return error
    return SearchResult(
        trials=record.known,
        best=best,
        front=front_of(problem, record.known),
        best_uniform=best_uniform(problem, record.known),
        evaluations=evaluations,
        seconds=seconds,
        study_name=study_name,
        storage=storage,
        left_out=len(record.barred),
    )
