"""The record of a search: an Optuna study in SQLite, or in any database Optuna can use.

A study is a neutral record of what was measured: every trial has two values, predicted latency
and metric, and carries plan, origin, seed, predicted latency, metric and seconds as user
attributes, its place in the strategy's space as parameters. The question (drop, target) is not
part of it, so another one can be asked of the same study. ``optuna-dashboard`` shows it.

A trial whose evaluation ended early has ``stopped``: samples seen, of how many, and the largest
drop that was of interest then. ``divergence`` is there where it was measured.

Study attributes: ``schema_version``, ``fingerprint`` of the problem, ``prices`` alone,
``strategy``, ``seed``, and what else it was made with; ``begun:KEY``, how many trials were complete
when a family of questions was first asked; ``forgiven``, the last trial when plans without a result
had ended a search.

Schema history (``schema_version``):
    1: first version.
    2: metrics have batch norm corrected, no longer re-estimated.

Several processes and machines may work on a study. Each claims a trial by beginning it: the
database numbers trials one after the other, and of two with the same plan the first has it. A
trial carries the process that runs it as ``owner``, and has heartbeats. What was left by a process
that died is marked failed (``sweep``), at once on the same machine, else when its heart has
stopped; its plan comes again. ``failure`` says why a failed trial has no result; without it, its
process died.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pruneaug_cli.core import Evaluation, Partial, Plan
from pruneaug_cli.interrupts import uninterrupted
from pruneaug_cli.search.identity import NOTHING, Setting, identify, known_early
from pruneaug_cli.search.owner import is_gone, this_process
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.sampler import distribution, quiet_optuna
from pruneaug_cli.search.storage import (
    Heart,
    experiments_allowed,
    open_storage,
    translated,
    watched,
)
from pruneaug_cli.search.strategies.contract import Proposal, Space
from pruneaug_cli.search.trial import Trial

_BEGUN = "begun:"
_FORGIVEN = "forgiven"
_DEATHS = 3  # processes that may die on a plan before it is left alone

Failure = Literal["interrupted", "error", "duplicate", "surplus", "no metric"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A trial without a result: in flight, or one that has to be done again."""

    number: int
    proposal: Proposal
    predicted_latency_s: float


@dataclass(frozen=True, slots=True)
class Record:
    """What a study knows at one moment, each in the order of the trials' numbers.

    Attributes:
        known: completed trials.
        running: trials in flight, here and elsewhere.
        lost: what was begun, has no result and is not in flight.
        barred: plans that nobody should try again: so many processes died on them, or their metric
            is not a finite number.
    """

    known: tuple[Trial, ...]
    running: tuple[Begun, ...]
    lost: tuple[Proposal, ...]
    barred: tuple[Proposal, ...]


class Study:
    """Trials in a storage, those in flight here among them. Made by :func:`open_study`."""

    def __init__(
        self,
        storage: optuna.storages.RDBStorage,
        study: optuna.Study,
        heart: Heart,
        seed: int,
        largest_drop: float | None,
    ) -> None:
        self._storage, self._study, self._heart = storage, study, heart
        self._largest_drop = largest_drop
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._seed = seed
        self._owner = this_process()
        self._mine: set[int] = set()
        self._others: dict[int, float | None] = {}  # since when they are seen; None: made to beat
        self._read: dict[int, Trial] = {}

    @uninterrupted
    def record(self) -> Record:
        """What is known now."""
        trials = [t for t in self._study.get_trials(deepcopy=False) if "plan" in t.user_attrs]
        trials.sort(key=lambda trial: trial.number)
        complete = [t for t in trials if t.state == TrialState.COMPLETE and not self._is_open(t)]
        known = tuple(map(self._completed, complete))
        running = tuple(_begun(t) for t in trials if t.state == TrialState.RUNNING)
        failed = [t for t in trials if t.state == TrialState.FAIL]
        taken = {trial.plan for trial in known} | {one.proposal.plan for one in running}
        begun = {one.proposal.plan: one.proposal for one in map(_begun, failed)}
        barred = _barred(failed, int(self._study.user_attrs.get(_FORGIVEN, -1)))
        lost = begun.keys() - taken - barred
        return Record(
            known,
            running,
            tuple(proposal for plan, proposal in begun.items() if plan in lost),
            tuple(proposal for plan, proposal in begun.items() if plan in barred - taken),
        )

    def forgive(self) -> None:
        """Let barred plans be tried again: what ended a search may have been mended."""
        numbers = [trial.number for trial in self._study.get_trials(deepcopy=False)]
        self._study.set_user_attr(_FORGIVEN, max(numbers, default=-1))

    def known_at_first(self, key: str) -> int:
        """How many trials were complete when this was first asked with the same ``key``."""
        name = f"{_BEGUN}{key}"
        if name not in self._study.user_attrs:
            self._study.set_user_attr(name, len(self.record().known))
        return int(self._study.user_attrs[name])

    @uninterrupted
    def sweep(self) -> None:
        """Mark trials failed whose process died: of this machine at once, others by heartbeat."""
        states = (TrialState.RUNNING, TrialState.WAITING)
        for trial in self._study.get_trials(deepcopy=False, states=states):
            key = self._key(trial.number)
            owner = trial.user_attrs.get("owner")
            if key in self._mine:
                continue
            if owner is None or is_gone(owner):
                self.fail(key)
            elif trial.state == TrialState.RUNNING:
                self._beat_for(key)
        with experiments_allowed():
            optuna.storages.fail_stale_trials(self._study)

    def _beat_for(self, key: int) -> None:
        """Give a trial of another machine one heartbeat, once it has been seen for long enough.

        A process that died between beginning it and its first beat has left none, and Optuna takes
        what never had one for living.
        """
        seen_s = self._others.setdefault(key, time.monotonic())
        grace_s = self._storage.grace_period or 0
        if seen_s is not None and time.monotonic() - seen_s > grace_s:
            self._storage.record_heartbeat(key)
            self._others[key] = None

    @uninterrupted
    def claim(
        self, proposal: Proposal, predicted_latency_s: float, space: Space, limit: int
    ) -> int | None:
        """Record that a plan is being evaluated here, and return the storage's key of the trial.

        None when another process has the plan, or took the last of ``limit`` places, a moment
        earlier.
        """
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(proposal.parameters),
            distributions={name: distribution(space[name]) for name in proposal.parameters},
            user_attrs={
                "plan": proposal.plan.to_json(),
                "origin": proposal.origin,
                "seed": self._seed,
                "predicted_latency_s": predicted_latency_s,
                "owner": self._owner,
            },
        )
        template.datetime_start = datetime.now()
        # in one transaction; asking for each parameter in turn would take one for every layer
        key = self._storage.create_new_trial(self._study_id, template_trial=template)
        self._mine.add(key)
        self._heart.add(key)
        earlier = self._taken_before(self._storage.get_trial_number_from_id(key))
        if proposal.plan in earlier:
            self.fail(key, "duplicate")
            return None
        if len(earlier) >= limit:
            self.fail(key, "surplus")
            return None
        return key

    @uninterrupted
    def complete(
        self,
        key: int,
        *,
        predicted_latency_s: float,
        found: Evaluation,
        seconds: float,
    ) -> bool:
        """Record what the evaluation of the trial begun as ``key`` returned.

        False when others took this process for dead; its plan is theirs then.
        """
        self._let_go(key)
        try:
            if found.partial is not None:
                self._storage.set_trial_user_attr(key, "stopped", _written(found.partial))
            if found.divergence is not None:
                self._storage.set_trial_user_attr(key, "divergence", found.divergence)
            self._storage.set_trial_user_attr(key, "metric", found.metric)
            self._storage.set_trial_user_attr(key, "seconds", seconds)
            values = [predicted_latency_s, found.metric]
            self._storage.set_trial_state_values(key, TrialState.COMPLETE, values)
        except UpdateFinishedTrialError:
            return False
        return True

    @uninterrupted
    def fail(self, key: int, failure: Failure | None = None) -> None:
        """Record that the trial has no result; without a ``failure``, that its process died."""
        self._let_go(key)
        try:
            if failure is not None:
                self._storage.set_trial_user_attr(key, "failure", failure)
            self._storage.set_trial_state_values(key, TrialState.FAIL)
        except UpdateFinishedTrialError:
            pass  # others were faster

    @uninterrupted
    def abandon(self, failure: Failure) -> None:
        """Record that nothing this process has in flight will have a result.

        The database is asked what that is: an interrupt may come just when a trial has begun.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get("owner") == self._owner:
                self.fail(self._key(trial.number), failure)

    def _let_go(self, key: int) -> None:
        self._mine.discard(key)
        self._heart.remove(key)

    def _key(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _taken_before(self, number: int) -> list[Plan]:
        """Plans of the trials that began earlier and are in flight or complete."""
        states = (TrialState.RUNNING, TrialState.COMPLETE)
        return [
            self._completed(trial).plan
            if trial.state == TrialState.COMPLETE
            else _begun(trial).proposal.plan
            for trial in self._study.get_trials(deepcopy=False, states=states)
            if trial.number < number and "plan" in trial.user_attrs and not self._is_open(trial)
        ]

    def _is_open(self, trial: FrozenTrial) -> bool:
        """Whether a trial ended early of which the present questions want to know more."""
        stopped = trial.user_attrs.get("stopped")
        if stopped is None or self._largest_drop is None:
            return stopped is not None
        return bool(stopped["max_drop"] < self._largest_drop * (1.0 - 1e-9))

    def _completed(self, trial: FrozenTrial) -> Trial:
        """A trial as the search knows it; read once, since it does not change any more."""
        if trial.number not in self._read:
            self._read[trial.number] = _read(trial)
        return self._read[trial.number]


@contextmanager
def open_study(
    storage: str,
    name: str,
    *,
    problem: SearchProblem,
    strategy: str,
    seed: int,
    made_with: Mapping[str, Setting] = NOTHING,
    largest_drop: float | None = None,
) -> Iterator[Study]:
    """Open a study, or make it; release the database on leaving.

    Args:
        storage: database URL, such as ``sqlite:///runs/mine/study.db``.
        name: name of the study in it.
        problem: what the study is about.
        strategy: name of the strategy.
        seed: seed of the search.
        made_with: by name, what else harms and metrics come from.
        largest_drop: the largest that the questions allow; None: any. Trials that ended early for
            a smaller one are not known then, and may be done again.

    Raises:
        RunError: the storage cannot be used, or is lost; the study is about another problem.
        UsageError: the study was made with another strategy or seed, or other settings.
        UnsupportedError: the database needs a driver that is not installed.
    """
    early = known_early(problem, strategy, seed, made_with)
    identity = {"fingerprint": problem.fingerprint(), **early}
    best_metric = StudyDirection.MAXIMIZE if problem.higher_is_better else StudyDirection.MINIMIZE
    with quiet_optuna(), open_storage(storage) as database:
        with translated(storage):
            study = optuna.create_study(
                storage=database,
                study_name=name,
                directions=[StudyDirection.MINIMIZE, best_metric],
                load_if_exists=True,
            )
            identify(study, identity)
        with watched(storage), Heart(database) as heart:
            yield Study(database, study, heart, seed, largest_drop)


def _begun(trial: FrozenTrial) -> Begun:
    attributes = trial.user_attrs
    plan = Plan.from_json(attributes["plan"])
    proposal = Proposal(plan, str(attributes["origin"]), dict(trial.params))
    return Begun(trial.number, proposal, float(attributes["predicted_latency_s"]))


def _barred(failed: Sequence[FrozenTrial], forgiven: int) -> frozenset[Plan]:
    """Plans not to try again, given the trials that failed, and the last that is forgiven."""
    counted = [trial for trial in failed if trial.number > forgiven]
    plans = [(_begun(trial).proposal.plan, trial.user_attrs.get("failure")) for trial in counted]
    deaths = Counter(plan for plan, failure in plans if failure is None)
    deadly = {plan for plan, times in deaths.items() if times >= _DEATHS}
    return frozenset(deadly).union(plan for plan, failure in plans if failure == "no metric")


def _written(partial: Partial) -> dict[str, float]:
    return {"samples": partial.samples, "of": partial.of, "max_drop": partial.max_drop}


def _read(trial: FrozenTrial) -> Trial:
    attributes = trial.user_attrs
    stopped = attributes.get("stopped")
    return Trial(
        number=trial.number,
        plan=Plan.from_json(attributes["plan"]),
        predicted_latency_s=float(attributes["predicted_latency_s"]),
        metric=float(attributes["metric"]),
        seconds=float(attributes["seconds"]),
        origin=str(attributes["origin"]),
        parameters=dict(trial.params),
        partial=None if stopped is None else Partial(float(attributes["metric"]), **stopped),
        divergence=attributes.get("divergence"),
    )
