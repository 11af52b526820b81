"""What is said of an error that the user's own code raises: one line, with its place and cause."""

import inspect
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

from pruneaug_cli.errors import PruneaugError, TaskError
from pruneaug_cli.tasks.source import source_file

PASSED_ON = (PruneaugError, MemoryError)
"""Errors that need no translation: those raised on purpose, and exhausted memory."""

_END = object()


def cause(error: BaseException) -> str:
    r"""Type and first line of an error.

    Example:
        >>> cause(ValueError("no data\nin the folder")), cause(AssertionError())
        ('ValueError: no data', 'AssertionError')
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def innermost(error: BaseException, files: Collection[str | None]) -> traceback.FrameSummary | None:
    """The last call on the way to an error that stands in one of the files."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    return frames[-1] if frames else None


@contextmanager
def translated(address: str, name: str, source: object) -> Iterator[None]:
    """Turn whatever the function ``name`` of a task raises into one line.

    Args:
        address: of the task.
        name: of the function.
        source: the object that has it as an attribute.

    Raises:
        TaskError: in place of any error but those of ``PASSED_ON``.
    """
    try:
        yield
    except PASSED_ON:
        raise
    except Exception as error:
        code = getattr(inspect.unwrap(getattr(source, name)), "__code__", None)
        frame = innermost(error, {source_file(source), getattr(code, "co_filename", None)})
        place = "" if frame is None else f" at {Path(frame.filename).name}:{frame.lineno}"
        raise TaskError(f"{address}: {name}() failed{place}: {cause(error)}") from error


class TranslatedBatches:
    """An iterator over the user's batches; whatever giving one raises is translated.

    What is done with a batch is not. Its length, where it has one, is that of the user's iterator.

    Args:
        batches: the user's iterator.
        translation: makes the context in which a batch is asked for.
    """

    def __init__(
        self, batches: Iterator[Any], translation: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._batches, self._translation = batches, translation
        if hasattr(batches, "__len__"):  # as a DataLoader's: no need to count them one by one
            self.__len__ = batches.__len__

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        with self._translation():
            found = next(self._batches, _END)
        if found is _END:
            raise StopIteration
        return found
