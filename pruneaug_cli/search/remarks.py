"""Numbers that later steps leave beside the trials of a study, so that nothing is measured twice.

A trial that is complete cannot be written to any more: a remark is an attribute of the study, named
``remark:TRIAL:TOPIC``, and stays there when the search goes on.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import optuna

from pruneaug_cli.errors import RunError
from pruneaug_cli.search.sampler import quiet_optuna
from pruneaug_cli.search.storage import open_storage, shown, translated, watched


class Remarks:
    """Reads and writes remarks on the trials of one study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    def find(self, trial: int, topic: str) -> float | None:
        """The remark on a trial under a topic, or None."""
        found = self._study.user_attrs.get(f"remark:{trial}:{topic}")
        return None if found is None else float(found)

    def write(self, trial: int, topic: str, value: float) -> None:
        """Leave a remark; an earlier one under the topic goes."""
        self._study.set_user_attr(f"remark:{trial}:{topic}", value)


@contextmanager
def open_remarks(storage: str, study_name: str) -> Iterator[Remarks]:
    """Open the remarks of a study that exists.

    Raises:
        RunError: the storage cannot be used, has no such study, or is lost.
    """
    with quiet_optuna(), open_storage(storage) as database:
        with translated(storage):
            if study_name not in optuna.get_all_study_names(database):
                raise RunError(f"{shown(storage)}: has no study {study_name!r}")
            study = optuna.load_study(study_name=study_name, storage=database)
        with watched(storage):
            yield Remarks(study)
