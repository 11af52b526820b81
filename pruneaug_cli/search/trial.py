"""What a search remembers and returns: trials, the best of them, their Pareto front."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pruneaug_cli.core import Evaluation, Partial, Plan, pareto_front
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.search.judged import TELLING, expected_drops, judged_drops
from pruneaug_cli.search.problem import SearchProblem, milliseconds, no_less

Evaluate = Callable[[Plan], float | Evaluation]
"""Measures a plan: its metric, in the unit and direction of ``dense_metric``, and maybe more."""

Parameters = Mapping[str, float | str]
"""Where in its strategy's space a plan was found: coefficients and budget, or blocks."""

UNIFORM = "uniform"
"""Origin of plans that give every layer the same choice."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluated plan.

    Attributes:
        number: the trial's number in its study; failed trials leave gaps.
        plan: what was evaluated.
        predicted_latency_s: sum of its options' latencies and the rest.
        metric: what the evaluation returned; an estimate where it ended early.
        seconds: how long it took.
        origin: which step of the strategy proposed it.
        parameters: where in the strategy's space it lies; empty when it has no place there.
        partial: what was seen when the evaluation ended because the plan was hopeless; None: all.
            Such a trial teaches a strategy, but is never an answer and on no front.
        divergence: of the outputs from the dense model's, relative; None: not measured.
    """

    number: int
    plan: Plan
    predicted_latency_s: float
    metric: float
    seconds: float
    origin: str
    parameters: Parameters = field(default_factory=dict)
    partial: Partial | None = None
    divergence: float | None = None


@dataclass(frozen=True, slots=True)
class Finalist:
    """A trial by its number, and the metric of its plan after a short training; NaN: none."""

    trial: int
    metric: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes:
        trials: every completed trial of the study, in order.
        best: the answer to the question.
        front: trials that no other beats in predicted latency and metric, fastest first.
        best_uniform: the answer among the uniform plans that were evaluated, for comparison.
        evaluations: plans evaluated by this call; the others were known.
        seconds: how long this call took.
        study_name: name of the study in its storage.
        storage: URL of the storage.
        left_out: plans without a metric: their evaluation killed workers, or was not finite.
        finalists: trials whose plans were trained for a short time, in that order; ``best`` is one
            of them then.
        finalists_untrained: whether there were more of them than there was time for.
    """

    trials: tuple[Trial, ...]
    best: Trial
    front: tuple[Trial, ...]
    best_uniform: Trial | None
    evaluations: int
    seconds: float
    study_name: str
    storage: str
    left_out: int = 0
    finalists: tuple[Finalist, ...] = ()
    finalists_untrained: bool = False


def front_of(problem: SearchProblem, trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Trials that no other beats in both predicted latency and metric, fastest first."""
    return tuple(
        pareto_front(
            [trial for trial in trials if trial.partial is None],
            cost=lambda trial: trial.predicted_latency_s,
            value=lambda trial: -problem.drop(trial.metric),
        )
    )


def incumbent(
    problem: SearchProblem,
    trials: Sequence[Trial],
    among: Callable[[Trial], bool] | None = None,
) -> Trial | None:
    """The best trial that keeps the constraint the search works under, or None.

    Best is least :meth:`SearchProblem.cost`; between equals the other quantity decides, then the
    earlier trial. ``among``: which trials may be it; all of them tell what is expected.
    """
    drops = judged_drops(problem, trials)
    feasible = [
        (trial, drop)
        for trial, drop in zip(trials, drops, strict=True)
        if trial.partial is None
        and problem.excess(trial.predicted_latency_s, drop) <= 0.0
        and (among is None or among(trial))
    ]
    best, _ = min(feasible, key=lambda one: _rank(problem, *one), default=(None, 0.0))
    return best


def judged_drop(problem: SearchProblem, trials: Sequence[Trial], trial: Trial) -> float:
    """What one of the trials counts as losing."""
    drops = judged_drops(problem, trials)
    return next(drop for one, drop in zip(trials, drops, strict=True) if one is trial)


def expected_drop(problem: SearchProblem, trials: Sequence[Trial], trial: Trial) -> float | None:
    """What one of the trials can be expected to lose on other data (:func:`expected_drops`)."""
    drops = expected_drops(problem, trials)
    return next((drop for one, drop in zip(trials, drops, strict=True) if one is trial), None)


def answer(problem: SearchProblem, trials: Sequence[Trial]) -> Trial:
    """The best trial, which must keep every constraint of the question.

    Raises:
        BudgetError: none does; the text names the nearest.
    """
    best = incumbent(problem, trials)
    if best is None:
        raise _nothing_found(problem, trials)
    if problem.cautious and expected_drop(problem, trials, best) is None:
        raise BudgetError(
            f"{len(trials)} plans evaluated are too few to tell what they are expected to lose",
            hint=f"allow {TELLING} trials or more",
        )
    drop = judged_drop(problem, trials, best)
    if problem.excess_drop(drop) > 0.0:
        raise BudgetError(
            f"the most accurate plan found within {milliseconds(problem.target_latency_s or 0.0)} "
            f"{_loses(problem)} {drop:.4g}, more than the {problem.max_drop:g} allowed "
            f"({len(trials)} plans evaluated)",
            hint=f"allow a drop of {_allowed(problem, drop):g}, a slower target, or more trials",
        )
    return best


def _loses(problem: SearchProblem) -> str:
    return "loses, or is expected to lose," if problem.cautious else "loses"


def _rank(problem: SearchProblem, trial: Trial, drop: float) -> tuple[float, float, int]:
    other = drop if problem.target_latency_s is None else trial.predicted_latency_s
    return (problem.cost(trial.predicted_latency_s, drop), other, trial.number)


def _nothing_found(problem: SearchProblem, trials: Sequence[Trial]) -> BudgetError:
    if not trials:
        return BudgetError("the search evaluated no plan", hint="allow more trials, or more time")
    judged = list(zip(trials, judged_drops(problem, trials), strict=True))
    within = [d for trial, d in judged if problem.excess(trial.predicted_latency_s, 0.0) <= 0.0]
    if problem.target_latency_s is not None and within:  # their evaluations all ended early
        return BudgetError(
            f"none of {len(within)} plans evaluated within "
            f"{milliseconds(problem.target_latency_s)} loses {problem.max_drop:g} or less: the "
            f"nearest {_loses(problem)} about {min(within):.4g}",
            hint="allow a larger drop, a slower target, or more trials",
        )
    nearest, drop = min(judged, key=lambda one: problem.excess(one[0].predicted_latency_s, one[1]))
    latency = milliseconds(nearest.predicted_latency_s)
    if problem.target_latency_s is not None:
        return BudgetError(
            f"none of {len(trials)} plans evaluated takes "
            f"{milliseconds(problem.target_latency_s)} or less: the fastest takes {latency}",
            hint="allow more trials",
        )
    trusted = f" ({problem.recovery:g} of it for training)" if problem.recovery else ""
    return BudgetError(
        f"none of {len(trials)} plans evaluated loses {problem.max_drop:g} or less{trusted}: "
        f"the nearest {_loses(problem)} {drop:.4g} and takes {latency}",
        hint=f"allow a drop of {_allowed(problem, drop):g}, or more trials",
    )


def _allowed(problem: SearchProblem, drop: float) -> float:
    """The drop to ask for so that a plan losing ``drop`` before training will do."""
    return no_less(drop - problem.recovery)
