"""What a study is about: who goes on with it must be about the same."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import optuna

from pruneaug_cli.errors import InputError, RunError, UsageError
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.sampler import quiet_optuna
from pruneaug_cli.search.storage import open_storage, translated

Setting = str | int | float | None
"""What a study remembers of what it was made with."""

NOTHING: Mapping[str, Setting] = MappingProxyType({})
"""Of a study that remembers problem, strategy and seed only."""

SCHEMA_VERSION = 2
"""Its history is in ``study.py``."""


def require_same_study(
    storage: str,
    name: str,
    *,
    problem: SearchProblem,
    strategy: str,
    seed: int,
    made_with: Mapping[str, Setting],
) -> None:
    """Refuse a study that :func:`open_study` would refuse, before harms are known; none is made.

    Raises:
        RunError: the storage cannot be used; the study is about other prices or weights.
        UsageError: the study was made with another strategy, seed, or other settings.
        UnsupportedError: the database needs a driver that is not installed.
    """
    with quiet_optuna(), open_storage(storage) as database, translated(storage):
        if name in optuna.get_all_study_names(database):
            found = optuna.load_study(study_name=name, storage=database).user_attrs
            for key, expected in known_early(problem, strategy, seed, made_with).items():
                if found.get(key, expected) != expected:
                    raise _mismatch(name, key, found[key], expected)


def known_early(
    problem: SearchProblem, strategy: str, seed: int, made_with: Mapping[str, Setting]
) -> dict[str, Setting]:
    """Attributes of a study that are known before the harms are.

    ``made_with``: by name, whatever else harms and metrics come from.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "prices": problem.prices(),
        "strategy": strategy,
        "seed": seed,
        **made_with,
    }


def identify(study: optuna.Study, identity: Mapping[str, Setting]) -> None:
    """Write what a new study is about; refuse an old one that is about something else."""
    found: Mapping[str, Any] = study.user_attrs
    name = study.study_name
    if not found.keys() & identity.keys() and study.get_trials(deepcopy=False):
        raise RunError(
            f"study {name!r} was not made by pruneaug",
            hint="choose another --storage, or another --run folder",
        )
    for key, expected in identity.items():
        if key not in found:
            study.set_user_attr(key, expected)  # a process may have died half way
        elif found[key] != expected:
            raise _mismatch(name, key, found[key], expected)


def _mismatch(name: str, key: str, found: object, expected: object) -> InputError | UsageError:
    if key in ("fingerprint", "prices"):
        return RunError(
            f"study {name!r} is about another problem: its options, prices or dense metric differ",
            hint="use another run directory, or its prices: --platform RUN/profile.json",
        )
    if key == "checkpoint":
        return RunError(
            f"study {name!r} is about the weights of another checkpoint",
            hint="use another run directory",
        )
    if key == "schema_version":
        return RunError(
            f"study {name!r}: schema {found!r} is not the supported {expected}",
            hint="use another run directory",
        )
    return UsageError(
        f"study {name!r} was made with {key} {_said(found)}, not {_said(expected)}",
        hint=f"continue with {key} {_said(found)}, or use another run directory",
    )


def _said(setting: object) -> str:
    return "null" if setting is None else repr(setting)
