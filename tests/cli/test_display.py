"""Progress: lines now and then in a log, bars on a terminal."""

import io

import pytest

from pruneaug_cli.cli.display import ProgressDisplay
from pruneaug_cli.progress import Step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_log_gets_a_line_when_a_stage_begins_ends_and_every_ten_seconds():
    stream, clock = io.StringIO(), Clock()
    with ProgressDisplay(stream, clock=clock) as progress:
        for done in range(1, 31):
            clock.now_s += 1.0
            progress(Step("search", done, 30))
        progress(Step("export", 0, 2, "writing"))
    assert stream.getvalue().splitlines() == [
        "search 1/30", "search 11/30", "search 21/30", "search 30/30", "export 0/2: writing",
    ]  # fmt: skip


def test_a_terminal_gets_a_bar_per_stage_and_names_are_not_markup():
    stream = Terminal()
    with ProgressDisplay(stream) as progress:
        progress(Step("search [bold]", 1, 2, "layer[0]"))
        progress(Step("export", 0, 2))
    assert "search [bold]" in stream.getvalue()
    assert "layer[0]" in stream.getvalue()
    assert "export" in stream.getvalue()


def test_an_error_stops_the_bars():
    stream = Terminal()
    progress = ProgressDisplay(stream)

    def fail() -> None:
        with progress:
            progress(Step("search", 1, 2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    written = stream.getvalue()
    progress(Step("search", 2, 2))
    assert stream.getvalue() == written
