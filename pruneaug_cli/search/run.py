"""The search: ask a strategy for plans, have them evaluated, remember them, until all are spent.

The next proposal is a function of the problem, the seed, and the trials begun so far: those in
flight count as known, with the metric of their nearest neighbour in latency for the time being.
With one worker nothing else is in flight, so a search that was interrupted goes on as if nothing
had happened when it is run again, and one seed gives one plan. A plan that is known is never
evaluated again; one that was begun and has no result is evaluated before any other.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence

from pruneaug_cli.children import WorkerDiedError
from pruneaug_cli.core import Evaluation, Partial, Plan
from pruneaug_cli.errors import MetricError, TaskError, UnsupportedError
from pruneaug_cli.progress import Progress, Step
from pruneaug_cli.search.engine import Engine, Outcome
from pruneaug_cli.search.judged import reference_drop
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.sampler import Sampler
from pruneaug_cli.search.standing import news, standing_of
from pruneaug_cli.search.strategies.contract import Proposal, Strategy
from pruneaug_cli.search.study import Record, Study
from pruneaug_cli.search.trial import Trial

_ATTEMPTS = 32  # proposals of known plans in a row after which the space counts as exhausted
_FAULTS = 10  # of one kind, no trial completed between them, after which the search ends
_LOOK_S = 2.0  # how often the study is looked at while others work on it


class Search:
    """One question asked of an open study: what is in flight here, and how that goes on.

    ``total`` is how many trials the study shall have in the end, for the progress display.
    """

    def __init__(
        self,
        study: Study,
        strategy: Strategy,
        problem: SearchProblem,
        engine: Engine,
        seed: int,
        total: int,
    ) -> None:
        self._study, self._strategy, self._problem = study, strategy, problem
        self._engine, self._seed, self._total = engine, seed, total
        self._space = strategy.space(problem)
        self._flying: dict[Plan, int] = {}  # to the storage's keys
        self._faults = Counter[type[Exception]]()
        self._is_given_up = False
        self._swept_s = -math.inf
        self.evaluations = 0

    def run(self, trials: int, left_s: Callable[[], float], progress: Progress) -> None:
        """Evaluate plans until as many ``trials`` are complete, or time or plans have run out.

        Or until plan after plan has no metric: what is known answers then, if anything is.
        """
        self._study.sweep()
        try:
            while True:
                nothing = self._begin_all(trials, lambda: left_s() > 0.0)
                progress(self._step(left_s()))
                if self._flying:
                    self._take(self._engine.wait(_LOOK_S))
                elif nothing is None or not nothing.running or len(nothing.known) >= trials:
                    return
                else:  # others have plans in flight, and may lose them
                    time.sleep(_LOOK_S)  # a database tells nobody that something has changed
                self._sweep_now_and_then()
        except BaseException as error:  # an interrupt too: what is in flight has no result
            self._study.abandon("error" if isinstance(error, Exception) else "interrupted")
            raise

    def _sweep_now_and_then(self) -> None:
        if time.monotonic() - self._swept_s > _LOOK_S:
            self._study.sweep()
            self._swept_s = time.monotonic()

    def _begin_all(self, trials: int, in_time: Callable[[], bool]) -> Record | None:
        """Give every free worker a plan; return the record that leaves none to begin, if any."""
        nothing = None
        while nothing is None and len(self._flying) < self._engine.workers and in_time():
            if self._is_given_up:
                break
            nothing = self._begin(trials)
        return nothing

    def _begin(self, trials: int) -> Record | None:
        """Claim the next plan and hand it to the engine, or return what leaves none to begin."""
        while True:
            record = self._study.record()
            if len(record.known) + len(record.running) >= trials:
                return record
            # others may take what flies here for lost, after a suspension say
            lost = (one for one in record.lost if one.plan not in self._flying)
            proposal = next(lost, None) or self._next_new(record)
            if proposal is None:
                return record
            latency_s = self._problem.latency_s(proposal.plan)
            key = self._study.claim(proposal, latency_s, self._space, limit=trials)
            if key is not None:
                self._flying[proposal.plan] = key
                self._engine.submit(proposal.plan)
                return None

    def _next_new(self, record: Record) -> Proposal | None:
        """A proposal whose plan is not known; None when the strategy has no more to give."""
        trials = _believed(self._problem, record)
        seen = {trial.plan for trial in trials} | {Plan.dense(self._problem.layers)}
        seen |= self._flying.keys()
        for attempt in range(_ATTEMPTS):
            draw = Sampler(seed=self._seed, known=len(trials), attempt=attempt)
            proposal = self._strategy.propose(self._problem, trials, draw)
            if proposal is None or proposal.plan not in seen:
                return proposal
        return None

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes. Errors come last: nothing is lost."""
        errors = []
        for outcome in outcomes:
            key = self._flying.pop(outcome.plan)
            result = _finite(outcome.result)
            if isinstance(result, Evaluation):
                self.evaluations += self._study.complete(
                    key,
                    predicted_latency_s=self._problem.latency_s(outcome.plan),
                    found=result,
                    seconds=outcome.seconds,
                )
                self._faults.clear()
            elif isinstance(result, WorkerDiedError | MetricError):
                self._study.fail(key, "no metric" if isinstance(result, MetricError) else None)
                self._faults[type(result)] += 1
                if self._faults[type(result)] >= _FAULTS:
                    errors += self._give_up(result)
            else:
                self._study.fail(key, "error")
                errors.append(result)
        if errors:
            raise errors[0]

    def _give_up(self, last: WorkerDiedError | MetricError) -> list[Exception]:
        """End the search: an error, unless some plans have a metric and the others had none."""
        self._is_given_up = True
        if isinstance(last, MetricError) and self._study.record().known:
            return []
        self._study.forgive()
        return [_given_up(last)]

    def _step(self, left_s: float) -> Step:
        record = self._study.record()
        standing = standing_of(self._problem, record)
        return Step(
            "search", len(record.known), self._total, news(standing), self._engine.workers,
            ends_in_s=None if math.isinf(left_s) else max(left_s, 0.0), standing=standing,
        )  # fmt: skip


def _finite(result: Evaluation | Exception) -> Evaluation | Exception:
    if isinstance(result, Evaluation) and not math.isfinite(result.metric):
        return MetricError(
            f"the evaluation of a plan returned {result.metric}, expected a finite number"
        )
    return result


def _given_up(last: WorkerDiedError | MetricError) -> Exception:
    if isinstance(last, MetricError):
        return TaskError(
            f"{_FAULTS} plans in a row have no metric (the last: {last})",
            hint="check evaluate() of the task on a pruned model",
        )
    return UnsupportedError(
        f"{_FAULTS} workers in a row died before they had evaluated a plan (the last: {last})",
        hint="is there enough memory? fewer workers (search.workers) need less",
    )


def _believed(problem: SearchProblem, record: Record) -> list[Trial]:
    """Completed trials, those in flight, and barred plans, in order of their numbers.

    A trial in flight is believed to do as well as the completed one that is nearest in latency, or
    as the dense model when there is none; so a strategy looks elsewhere meanwhile. A barred plan is
    believed to lose too much, and is never an answer; it comes before all others. Its outputs are
    believed to differ more than any that are known, where that is known of plans.

    References:
        Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize optimization",
        2010: a believer, theirs with a Gaussian process instead of the nearest neighbour.
    """
    trials = list(record.known)
    for begun in record.running:
        latency_s = begun.predicted_latency_s
        nearest = min(
            record.known, key=lambda t: abs(t.predicted_latency_s - latency_s), default=None
        )
        metric = problem.dense_metric if nearest is None else nearest.metric
        plan, origin, place = begun.proposal.plan, begun.proposal.origin, begun.proposal.parameters
        trials.append(Trial(begun.number, plan, latency_s, metric, 0.0, origin, place))
    return _barred(problem, record) + sorted(trials, key=lambda trial: trial.number)


def _barred(problem: SearchProblem, record: Record) -> list[Trial]:
    loss = 2.0 * reference_drop(problem, record.known)
    metric = problem.dense_metric - (loss if problem.higher_is_better else -loss)
    known = [trial.divergence for trial in record.known if trial.divergence is not None]
    divergence = 2.0 * max(known) if known else None
    barred = sorted(record.barred, key=lambda proposal: problem.latency_s(proposal.plan))
    return [
        Trial(number, one.plan, problem.latency_s(one.plan), metric, 0.0, "barred",
              one.parameters, Partial(metric, 0, 0, loss), divergence)
        for number, one in enumerate(barred, -len(barred))
    ]  # fmt: skip
