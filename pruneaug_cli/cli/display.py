"""Shows on stderr where the work stands: bars on a terminal, now and then a line elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from pruneaug_cli.progress import Step

_LINE_EVERY_S = 10.0


class ProgressDisplay:
    """A ``Progress`` callback that is a context manager.

    On a terminal every stage has a bar. In a log a line is written when a stage begins, when it
    ends, and at most every ten seconds in between.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._stage = ""
        self._written_s = clock()

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._bars = Bars(
                TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
                TimeElapsedColumn(), TextColumn("{task.fields[note]}"),
                console=Console(file=self._stream),
            )  # fmt: skip
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, step: Step) -> None:
        """Show ``step``."""
        if self._bars is not None:
            self._move_bar(self._bars, step)
        elif self._is_worth_a_line(step):
            note = f": {step.note}" if step.note else ""
            self._stream.write(f"{step.stage} {_count(step)}{note}\n")
            self._stream.flush()
            self._written_s = self._clock()

    def _move_bar(self, bars: Bars, step: Step) -> None:
        if step.stage not in self._tasks:
            self._tasks[step.stage] = bars.add_task("", note="")
        bars.update(
            self._tasks[step.stage], completed=step.done, total=step.total or None,
            description=_plain(step.stage), note=_plain(step.note),
        )  # fmt: skip

    def _is_worth_a_line(self, step: Step) -> bool:
        begins, self._stage = step.stage != self._stage, step.stage
        is_late = self._clock() - self._written_s >= _LINE_EVERY_S
        return begins or is_late or 0 < step.total <= step.done


def _count(step: Step) -> str:
    return f"{step.done}/{step.total}" if step.total else str(step.done)


def _plain(text: str) -> str:
    """Keep rich from reading names such as ``layer[0]`` as markup."""
    return text.replace("[", r"\[")
