"""Which plan wins, once the best few of a search have been trained for a short time.

What a plan loses one-shot says only roughly what it loses after training. So plans near the answer
are trained briefly, band by band: a band holds latencies within 5% of each other, and sends its
best ``PER_BAND`` plans.

- A drop is to be kept: from the answer's band to faster ones while one plan of the band keeps the
  drop after its training, to slower ones until one does. The fastest that keeps it wins; where none
  does, the one that loses least.
- A target is given: the two bands next to it. The most accurate after training wins.

Who has no time for all of them chooses among those that were trained; without any the search's
answer stays. A finalist whose training diverged is out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.trial import Finalist, SearchResult, Trial

PER_BAND = 2
MOST = 6
"""Plans that are trained at most."""

_WIDTH = math.log(1.05)
_BANDS_WITHIN = 2

Train = Callable[[Trial], float | None]
"""Trains the plan of a trial for a short time and returns its metric; None: no time is left; NaN:
it has none any more."""


def choose_finalist(
    problem: SearchProblem, found: SearchResult, train: Train, *, max_drop: float | None
) -> SearchResult:
    """Train the best few plans of a search and choose among them.

    Args:
        problem: the question the search was about.
        found: its answer and trials.
        train: called at most ``MOST`` times, and once per trial.
        max_drop: the drop to keep after training; None with a latency target only.

    Returns:
        The same with the winner as ``best``, and ``finalists`` in the order they were trained.
    """
    trainings = _Trainings(train)
    if problem.target_latency_s is not None:
        _within(problem, found, trainings, problem.target_latency_s)
        finalists = trainings.finalists
        kept = measured = [f for f in finalists if math.isfinite(f.metric)]
    else:
        allowed = replace(problem, max_drop=max_drop)
        _towards_the_drop(allowed, found, trainings)
        finalists = trainings.finalists
        measured = [f for f in finalists if math.isfinite(f.metric)]
        kept = [f for f in measured if allowed.excess_drop(problem.drop(f.metric)) <= 0.0]
    found = replace(
        found, finalists=tuple(finalists), finalists_untrained=trainings.are_out_of_time
    )
    if not measured:
        return found
    trials = {trial.number: trial for trial in found.trials}

    def rank(finalist: Finalist) -> tuple[float, float, int]:
        latency_s, drop = trials[finalist.trial].predicted_latency_s, problem.drop(finalist.metric)
        fastest_first = problem.target_latency_s is None and bool(kept)
        order = (latency_s, drop) if fastest_first else (drop, latency_s)
        return (*order, finalist.trial)

    winner = min(kept or measured, key=rank)
    return replace(found, best=trials[winner.trial])


class _Trainings:
    """Trains plans, one after the other, until there are enough or no time is left."""

    def __init__(self, train: Train) -> None:
        self._train = train
        self.finalists: list[Finalist] = []
        self.are_out_of_time = False

    def __call__(self, trial: Trial) -> float | None:
        """The metric of a trial's plan after its training; None: no more are trained."""
        if self.are_out_of_time or len(self.finalists) == MOST:
            return None
        metric = self._train(trial)
        if metric is None:
            self.are_out_of_time = True
        else:
            self.finalists.append(Finalist(trial.number, metric))
        return metric


def _towards_the_drop(problem: SearchProblem, found: SearchResult, train: _Trainings) -> None:
    """Train from the answer's band on, until the drop is just kept."""
    bands = _bands(problem, found.trials, found.best.predicted_latency_s)
    own = [found.best, *(trial for trial in bands[0] if trial != found.best)][:PER_BAND]

    def keeps(plans: Sequence[Trial]) -> bool:
        """Whether a plan of the band keeps the drop; the rest of the band is not trained then."""
        metrics = map(train, plans)
        found = (problem.drop(m) for m in metrics if m is not None and math.isfinite(m))
        return any(problem.excess_drop(drop) <= 0.0 for drop in found)

    if keeps(own):
        faster = sorted((index for index in bands if index < 0), reverse=True)
        for index in faster:
            if not keeps(bands[index]):
                break
    else:
        for index in sorted(index for index in bands if index > 0):
            if keeps(bands[index]):
                break


def _within(
    problem: SearchProblem, found: SearchResult, train: _Trainings, target_s: float
) -> None:
    """Train the best of the bands next to the target."""
    inside = [t for t in found.trials if problem.excess(t.predicted_latency_s, 0.0) <= 0.0]
    bands = _bands(problem, inside, target_s)
    nearest = sorted(bands, reverse=True)[:_BANDS_WITHIN]
    chosen = [found.best, *(t for index in nearest for t in bands[index] if t != found.best)]
    for trial in chosen[: PER_BAND * _BANDS_WITHIN]:
        train(trial)


def _bands(
    problem: SearchProblem, trials: Sequence[Trial], middle_s: float
) -> dict[int, list[Trial]]:
    """Per band its best trials, those first that lose least; band 0 is around ``middle_s``."""
    bands: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.partial is None:
            index = round(math.log(trial.predicted_latency_s / middle_s) / _WIDTH)
            bands.setdefault(index, []).append(trial)
    return {
        index: sorted(band, key=lambda trial: (problem.drop(trial.metric), trial.number))[:PER_BAND]
        for index, band in bands.items()
    }
