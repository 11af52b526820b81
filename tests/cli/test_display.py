"""Progress: lines now and then in a log; bars and, during a search, a live table on a terminal."""

import io
import re

import pytest
from rich.console import Console

from pruneaug_cli.cli.display import ProgressDisplay
from pruneaug_cli.cli.live import render
from pruneaug_cli.cli.stages import Stage
from pruneaug_cli.progress import Flight, Found, Standing, Step

FRONT = tuple(Found(i, 1e-3 + 1e-4 * i, 0.95 + 0.01 * i, 0.04 - 0.01 * i) for i in range(8))
STANDING = Standing(
    best=FRONT[2], uniform=Found(9, 1.9e-3, 0.97, 0.02), front=FRONT,
    flights=(Flight(62, "fit", 1.15e-3), Flight(63, "tpe", 1.2e-3)),
    max_drop=0.02, baseline_s=4.1e-3,
)  # fmt: skip
NOTHING = Standing(None, None, (), (), target_latency_s=2e-3)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


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
        "search 1/30", "search 11/30: 0:19 left", "search 21/30: 0:09 left", "search 30/30",
        "export 0/2: writing",
    ]  # fmt: skip


def test_a_log_of_a_long_search_gets_lines_ever_more_rarely():
    stream, clock = io.StringIO(), Clock()
    with ProgressDisplay(stream, clock=clock) as progress:
        for done in range(1, 3601):
            clock.now_s += 1.0
            progress(Step("search", done, 7200))
    first_minute = [line for line in stream.getvalue().splitlines() if _done(line) <= 60]
    assert len(first_minute) == 6
    assert len(stream.getvalue().splitlines()) < 90


def test_a_log_says_how_far_a_stage_came_that_ended_early():
    stream, clock = io.StringIO(), Clock()
    with ProgressDisplay(stream, clock=clock) as progress:
        for done in range(3):
            progress(Step("evidence", done, 0))
        for done in range(3):
            progress(Step("search", done, 9))
    assert stream.getvalue().splitlines() == [
        "evidence 0", "evidence 2", "search 0/9", "search 2/9",
    ]  # fmt: skip


def _done(line):
    return int(line.split()[1].partition("/")[0])


def test_a_log_says_what_a_search_has_found():
    stream, clock = io.StringIO(), Clock()
    with ProgressDisplay(stream, clock=clock) as progress:
        progress(Step("search", 0, 2, standing=NOTHING))
        clock.now_s = 11.0
        progress(Step("search", 1, 2, standing=Standing(None, None, FRONT[:1], ())))
        progress(Step("search", 2, 2, standing=STANDING))
        progress(Step("search", 2, 2, standing=STANDING))
    assert stream.getvalue().splitlines() == [
        "search 0/2",
        "search 1/2: nothing meets the goal yet",
        "search 2/2: best 1.200 ms, 3.42×, drop 0.0200",
    ]


def test_a_log_holds_no_control_characters_even_when_colour_is_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    with ProgressDisplay(stream) as progress:
        progress(Step("search", 1, 2, standing=STANDING))
    assert stream.getvalue() == "search 1/2: best 1.200 ms, 3.42×, drop 0.0200\n"


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_is_like_a_log(monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    stream = Terminal()
    with ProgressDisplay(stream) as progress:
        progress(Step("search", 1, 2))
    assert stream.getvalue() == "search 1/2\n"


@pytest.mark.parametrize("no_color", [True, False])
def test_no_color_leaves_a_terminal_without_colour(monkeypatch, no_color):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with ProgressDisplay(stream) as progress:
        progress(Step("search", 1, 2, standing=STANDING))
    colours = re.findall(r"\x1b\[[0-9;]*(?:3[0-9]|4[0-9])[0-9;]*m", stream.getvalue())
    assert (not colours) == no_color


def test_the_table_of_a_search_goes_when_the_next_stage_begins():
    stages = _stages()
    stages[-1].ended_s = 99.0
    text = _text(stages, 80)
    assert "in flight" not in text
    assert "62/100 0:58 best 1.200 ms, 3.42×\n" in text


@pytest.mark.parametrize("width", [100, 80, 60, 44])
def test_the_table_of_a_search(golden, width):
    text = _text(_stages(), width)
    assert max(map(len, text.splitlines())) <= width
    golden(f"display/{width}.txt", text)


def test_a_search_that_has_only_begun_shows_dashes_and_no_time_left():
    stage = Stage(Step("search", 0, 50), 0.0, 0.0)
    stage.tell(Step("search", 0, 50, standing=NOTHING), 0.0)
    text = _text([stage], 80)
    assert re.search(r"^best +– +– +– +– +–$", text, flags=re.MULTILINE)
    assert "left" not in text
    assert "Goal: the most accurate plan with at most 2.000 ms" in text


def test_many_flights_are_counted():
    flights = tuple(Flight(number, "fit", 1e-3) for number in range(9))
    stage = Stage(Step("search", 0, 50), 0.0, 0.0)
    stage.tell(Step("search", 0, 50, standing=Standing(None, None, (), flights)), 0.0)
    text = _text([stage], 80)
    assert text.count("in flight") == 4
    assert "and 5 more" in text


def _stages():
    built = Stage(Step("reconstructing layers", 0, 33), 0.0, 0.0)
    built.tell(Step("reconstructing layers", 33, 33, "conv1 8x1"), 40.0)
    built.ended_s = 41.0
    search = Stage(Step("search", 0, 100), 41.0, 41.0)
    search.tell(Step("search", 50, 100, at_once=2, standing=STANDING), 41.0)
    search.tell(Step("search", 62, 100, at_once=2, standing=STANDING), 75.0)
    return [built, search]


def _text(stages, width):
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    console.print(render(stages, 78.0, width))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def test_a_terminal_gets_a_bar_per_stage_and_names_are_not_markup():
    stream = Terminal()
    with ProgressDisplay(stream) as progress:
        progress(Step("search [bold]", 1, 2))
        progress(Step("export", 0, 2, "layer[0]"))
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
