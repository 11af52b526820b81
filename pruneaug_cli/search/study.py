"""The record of a search: an Optuna study in SQLite, or in any database Optuna can use.

A study is a neutral record of what was measured: every trial has two values, predicted latency
and metric, and carries plan, origin, seed, predicted latency, metric and seconds as user
attributes, its place in the strategy's space as parameters. The question (drop, target) is not
part of it, so another one can be asked of the same study. ``optuna-dashboard`` shows it.

Study attributes (``schema_version`` 1): ``fingerprint`` of the problem, ``strategy``, ``seed``.
One process works on a study at a time: a running trial found when opening was left by a process
that died. It is marked failed; the strategy, asked again, proposes the same plan again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from pruneaug_cli.core import Plan
from pruneaug_cli.errors import InputError, RunError, UnsupportedError, UsageError
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.sampler import distribution, quiet_optuna
from pruneaug_cli.search.strategies.contract import Proposal, Space
from pruneaug_cli.search.trial import Trial

SCHEMA_VERSION = 1
_LOCK_WAIT_S = 60.0  # how long SQLite waits for another process that writes


class Study:
    """Completed trials in a storage, and the one in flight. Made by :func:`open_study`."""

    def __init__(self, storage: optuna.storages.BaseStorage, name: str, seed: int) -> None:
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(name)
        self._seed = seed

    def trials(self) -> list[Trial]:
        """Every completed trial, in order."""
        found = self._storage.get_all_trials(
            self._study_id, deepcopy=False, states=(TrialState.COMPLETE,)
        )
        return [_read(trial) for trial in sorted(found, key=lambda trial: trial.number)]

    def sweep(self) -> int:
        """Mark trials failed that a dead process left running; return how many."""
        stale = self._storage.get_all_trials(
            self._study_id, deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)
        )
        for trial in stale:
            self.fail(
                self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
            )
        return len(stale)

    def begin(self, proposal: Proposal, predicted_latency_s: float, space: Space) -> int:
        """Record that a plan is being evaluated; return the storage's key of the trial."""
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(proposal.parameters),
            distributions={name: distribution(space[name]) for name in proposal.parameters},
            user_attrs={
                "plan": proposal.plan.to_json(),
                "origin": proposal.origin,
                "seed": self._seed,
                "predicted_latency_s": predicted_latency_s,
            },
        )
        template.datetime_start = datetime.now()
        # in one transaction; asking for each parameter in turn would take one for every layer
        return self._storage.create_new_trial(self._study_id, template_trial=template)

    def complete(
        self,
        key: int,
        proposal: Proposal,
        *,
        predicted_latency_s: float,
        metric: float,
        seconds: float,
    ) -> Trial:
        """Record what the evaluation of the trial begun as ``key`` returned."""
        self._storage.set_trial_user_attr(key, "metric", metric)
        self._storage.set_trial_user_attr(key, "seconds", seconds)
        values = [predicted_latency_s, metric]
        self._storage.set_trial_state_values(key, TrialState.COMPLETE, values)
        return Trial(
            number=self._storage.get_trial_number_from_id(key),
            plan=proposal.plan,
            predicted_latency_s=predicted_latency_s,
            metric=metric,
            seconds=seconds,
            origin=proposal.origin,
            parameters=proposal.parameters,
        )

    def fail(self, key: int) -> None:
        """Record that the trial has no result."""
        self._storage.set_trial_state_values(key, TrialState.FAIL)


@contextmanager
def open_study(
    storage: str, name: str, *, problem: SearchProblem, strategy: str, seed: int
) -> Iterator[Study]:
    """Open a study, or make it; release the database on leaving.

    Args:
        storage: database URL, such as ``sqlite:///runs/mine/study.db``.
        name: name of the study in it.
        problem: what the study is about.
        strategy: name of the strategy.
        seed: seed of the search.

    Raises:
        RunError: the storage cannot be used, or the study is about another problem.
        UsageError: the study was made with another strategy or seed.
        UnsupportedError: the database needs a driver that is not installed.
    """
    identity: dict[str, str | int] = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": problem.fingerprint(),
        "strategy": strategy,
        "seed": seed,
    }
    best_metric = StudyDirection.MAXIMIZE if problem.higher_is_better else StudyDirection.MINIMIZE
    with quiet_optuna():
        database = _open_storage(storage)
        try:
            with _translated(storage):
                study = optuna.create_study(
                    storage=database,
                    study_name=name,
                    directions=[StudyDirection.MINIMIZE, best_metric],
                    load_if_exists=True,
                )
                _identify(study, identity)
            yield Study(database, name, seed)
        finally:
            database.remove_session()
            database.engine.dispose()


def shown(storage: str) -> str:
    """The storage's URL without its password."""
    try:
        return make_url(storage).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return storage


def _open_storage(storage: str) -> optuna.storages.RDBStorage:
    sqlite = storage.startswith("sqlite")
    connect: dict[str, float] = {"timeout": _LOCK_WAIT_S} if sqlite else {}
    with _translated(storage):
        return optuna.storages.RDBStorage(storage, engine_kwargs={"connect_args": connect})


@contextmanager
def _translated(storage: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UnsupportedError(
            f"{shown(storage)}: the driver of this database is not installed",
            hint=f"pip install {error.name}" if error.name else None,
        ) from error
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise RunError(
            f"{shown(storage)}: cannot be used as a study: {reason}",
            hint="expected a database URL such as sqlite:///study.db",
        ) from error


def _identify(study: optuna.Study, identity: Mapping[str, str | int]) -> None:
    """Write what a new study is about; refuse an old one that is about something else."""
    found: Mapping[str, Any] = study.user_attrs
    name = study.study_name
    if not found.keys() & identity.keys() and study.get_trials(deepcopy=False):
        raise RunError(
            f"study {name!r} was not made by pruneaug", hint="choose another name or storage"
        )
    for key, expected in identity.items():
        if key not in found:
            study.set_user_attr(key, expected)  # a process may have died half way
        elif found[key] != expected:
            raise _mismatch(name, key, found[key], expected)


def _mismatch(name: str, key: str, found: object, expected: object) -> InputError | UsageError:
    if key == "fingerprint":
        return RunError(
            f"study {name!r} is about another problem: its options, prices or dense metric differ",
            hint="use another run directory, or delete the old study to start anew",
        )
    if key == "schema_version":
        return RunError(
            f"study {name!r}: schema {found!r} is not the supported {expected}",
            hint="use another run directory",
        )
    return UsageError(
        f"study {name!r} was made with {key} {found!r}, not {expected!r}",
        hint=f"continue with {key} {found!r}, or use another run directory",
    )


def _read(trial: FrozenTrial) -> Trial:
    attributes = trial.user_attrs
    return Trial(
        number=trial.number,
        plan=Plan.from_json(attributes["plan"]),
        predicted_latency_s=float(attributes["predicted_latency_s"]),
        metric=float(attributes["metric"]),
        seconds=float(attributes["seconds"]),
        origin=str(attributes["origin"]),
        parameters=dict(trial.params),
    )
