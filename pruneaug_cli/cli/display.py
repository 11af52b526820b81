"""Shows on stderr where the work stands: live on a terminal, now and then a line elsewhere."""

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live

from pruneaug_cli.cli.live import render
from pruneaug_cli.cli.stages import Stage
from pruneaug_cli.progress import Step

_LINE_EVERY_S = 10.0
_LINE_EVERY = 0.05  # of what a stage has taken so far: hours of work need no line every ten seconds
_REFRESH_HZ = 4


class ProgressDisplay:
    """A ``Progress`` callback that is a context manager.

    On a terminal every stage has a line with a bar, and a search a table that lives. In a log a
    line is written when a stage begins, when it ends, and in between at most every ten seconds,
    later more rarely. A log never holds control characters, whatever ``FORCE_COLOR`` says;
    terminals are shown no colour where ``NO_COLOR`` says so, and are like a log where they cannot
    move their cursor (``TERM=dumb``).
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._live: Live | None = None
        self._stages: dict[str, Stage] = {}
        self._written_s, self._written = clock(), ("", 0)

    def __enter__(self) -> Self:
        if self._stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown"):
            console = Console(file=self._stream, force_terminal=True, highlight=False)
            self._live = Live(
                get_renderable=lambda: render(
                    list(self._stages.values()), self._clock(), console.width
                ),
                console=console,
                refresh_per_second=_REFRESH_HZ,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_all_but(None)
        if self._live is not None:
            self._live.stop()

    def __call__(self, step: Step) -> None:
        """Show ``step``."""
        now_s = self._clock()
        begins = self._end_all_but(step.stage)
        known = self._stages.get(step.stage)
        was_complete = known is not None and known.is_complete
        # the latest stage stands last, also one that comes again
        stage = self._stages.pop(step.stage, None) or Stage(step, now_s, now_s)
        self._stages[step.stage] = stage
        stage.tell(step, now_s)
        if self._live is None:
            completes = stage.is_complete and not was_complete
            self._write(stage, now_s, at_once=begins or completes)

    def _end_all_but(self, name: str | None) -> bool:
        """End the stage that was going on; True when ``name`` is another."""
        going_on = [stage for stage in self._stages.values() if stage.ended_s is None]
        for stage in going_on:
            if stage.step.stage != name:
                stage.ended_s = self._clock()
                self._write_end(stage)
        return all(stage.step.stage != name for stage in going_on)

    def _write_end(self, stage: Stage) -> None:
        """Write how far a stage came, unless a log says so already."""
        if self._live is None and self._written != (stage.step.stage, stage.step.done):
            self._write(stage, self._clock(), at_once=True)

    def _write(self, stage: Stage, now_s: float, *, at_once: bool) -> None:
        """Write a line, unless the last one is too fresh."""
        pause_s = max(_LINE_EVERY_S, _LINE_EVERY * stage.elapsed_s(now_s))
        if not at_once and now_s - self._written_s < pause_s:
            return
        remark = "; ".join(part for part in (stage.news(), stage.left(now_s)) if part)
        note = f": {remark}" if remark else ""
        self._stream.write(f"{stage.step.stage} {stage.count()}{note}\n")
        self._stream.flush()
        self._written_s, self._written = now_s, (stage.step.stage, stage.step.done)
