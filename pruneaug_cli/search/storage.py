"""The database behind a study: opened through Optuna, its errors in one line, its heartbeats.

Optuna's relational storage serves one machine (SQLite) and many (PostgreSQL, MySQL) alike, and is
the only one of Optuna's with heartbeats; its dashboard and command line open the same address.
SQLite keeps its rollback journal, which also works in folders on a network; who finds the file
locked waits.
"""

import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from pruneaug_cli.errors import RunError, UnsupportedError

BEAT_S = 15
"""Seconds between two signs of life of a trial."""

GRACE_S = 90
"""Seconds without one after which a trial of another machine counts as dead."""

_LOCK_WAIT_S = 60.0  # how long SQLite waits for another process that writes
_OPENINGS = 5  # of two that make the same tables at the same moment one fails
_PACKAGES = {  # what to install for modules of other names
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
    "psycopg": "'pruneaug[postgresql]'",
}


def shown(storage: str) -> str:
    """The storage's URL without its password."""
    try:
        return make_url(storage).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return storage


def require_storage(storage: str) -> None:
    """Refuse, before anything is spent, a database that cannot be used.

    Raises:
        RunError: it cannot be opened.
        UnsupportedError: it needs a driver that is not installed.
    """
    with open_storage(storage):
        pass


@contextmanager
def open_storage(storage: str) -> Iterator[RDBStorage]:
    """Open a database, make Optuna's tables where they are missing, let go of it on leaving.

    Raises:
        RunError: it cannot be used.
        UnsupportedError: it needs a driver that is not installed.
    """
    with translated(storage):
        database = _opened(storage)
    try:
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


@contextmanager
def translated(storage: str) -> Iterator[None]:
    """Give what a database raises in here its place, and one line."""
    try:
        yield
    except ImportError as error:
        module = error.name or getattr(error.__cause__, "name", None)
        raise UnsupportedError(
            f"{shown(storage)}: the driver of this database is not installed",
            hint=f"pip install {_PACKAGES.get(module, module)}" if module else None,
        ) from error
    except (SQLAlchemyError, OptunaError, RuntimeError) as error:
        raise RunError(
            f"{shown(storage)}: cannot be used as a study: {_reason(error)}",
            hint="expected a database URL such as sqlite:///study.db",
        ) from error


@contextmanager
def watched(storage: str) -> Iterator[None]:
    """The same for a database that is lost in the midst of a search."""
    try:
        yield
    except (SQLAlchemyError, OptunaError) as error:
        raise RunError(
            f"{shown(storage)}: the study is lost: {_reason(error)}",
            hint="completed trials are kept there; when it is back, run the same command again",
        ) from error


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", None) or cause).splitlines()[0]


@contextmanager
def experiments_allowed() -> Iterator[None]:
    """Optuna calls heartbeats experimental, and says so each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _opened(storage: str) -> RDBStorage:
    connect = {"timeout": _LOCK_WAIT_S} if storage.startswith("sqlite") else {}
    for opening in range(1, _OPENINGS + 1):
        try:
            with experiments_allowed():
                return RDBStorage(
                    storage,
                    engine_kwargs={"connect_args": connect, "pool_pre_ping": True},
                    heartbeat_interval=BEAT_S,
                    grace_period=GRACE_S,
                )
        except (DBAPIError, OptunaError) as error:
            if opening == _OPENINGS or not _is_collision(error):
                raise
            time.sleep(0.2 * opening)
    raise AssertionError("not reached")


def _is_collision(error: Exception) -> bool:
    """Whether another process made the same table, or the same first row, a moment earlier."""
    cause = error.__cause__ if isinstance(error, OptunaError) else error
    return isinstance(cause, IntegrityError) or "exist" in str(getattr(cause, "orig", ""))


class Heart:
    """Beats for the trials of this process from a thread, for as long as a ``with`` block lasts."""

    def __init__(self, database: RDBStorage) -> None:
        self._database = database
        self._trials: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def add(self, trial: int) -> None:
        """Beat for a trial, at once and from now on."""
        self._database.record_heartbeat(trial)
        self._trials.add(trial)

    def remove(self, trial: int) -> None:
        """Beat no more for a trial."""
        self._trials.discard(trial)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            for trial in self._trials.copy():
                try:
                    self._database.record_heartbeat(trial)
                except (OptunaError, SQLAlchemyError):
                    break  # the next beat may come through, and the search meets what lasts
        self._database.remove_session()
