"""What a terminal shows while work goes on: a line per stage, and how a search stands."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pruneaug_cli.cli.eta import clock_time
from pruneaug_cli.cli.stages import Stage, goal_in_words, in_words
from pruneaug_cli.progress import Flight, Found, Standing
from pruneaug_cli.report.units import MISSING, Kind, Value, ratio, show

_BAR, _SHORT_BAR = 20, 8
_WIDE, _NARROW, _TINY = 72, 52, 40  # columns of a terminal: below these there is room for less
_FRONT = 5
_FLIGHTS = 4


def render(stages: Sequence[Stage], now_s: float, width: int) -> RenderableType:
    """All stages so far; below, how the search stands while it is the latest of them."""
    standing = stages[-1].step.standing if stages and not stages[-1].is_over else None
    lines = _lines(stages, now_s, width)
    if standing is None:
        return lines
    goal = Text(f"Goal: {goal_in_words(standing)}", style="dim")
    return Group(lines, Text(), _standing(stages[-1], standing, now_s, width), goal)


def _lines(stages: Sequence[Stage], now_s: float, width: int) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0), expand=False)
    table.add_column(no_wrap=True, overflow="ellipsis")
    bar = _BAR if width >= _WIDE else _SHORT_BAR
    if width >= _NARROW:
        table.add_column(width=bar)
    for _ in ("count", "elapsed") if width >= _TINY else ("count",):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for stage in stages:
        cells: list[RenderableType] = [Text(stage.step.stage)]
        if width >= _NARROW:
            cells.append(_bar(stage, now_s, bar))
        cells.append(Text(stage.count()))
        if width >= _TINY:
            cells.append(Text(clock_time(stage.elapsed_s(now_s)), style="dim"))
        table.add_row(*cells, Text(_remark(stage, now_s)))
    return table


def _bar(stage: Stage, now_s: float, width: int) -> ProgressBar:
    step = stage.step
    if stage.ended_s is not None and not step.total:
        return ProgressBar(1.0, 1.0, width=width)
    return ProgressBar(step.total or None, step.done, width=width, animation_time=now_s)


def _remark(stage: Stage, now_s: float) -> str:
    """Time left and the latest news; of what was completed only what a search found."""
    standing = stage.step.standing
    if stage.is_over and (standing or stage.is_complete or not stage.step.total):
        found = None if standing is None else standing.best
        return f"best {in_words(standing, found)}" if standing and found else ""
    parts = (stage.left(now_s), stage.news() if standing is None else "")
    return ", ".join(part for part in parts if part)


_COLUMNS: tuple[tuple[str, Kind], ...] = (
    ("predicted (ms)", "ms"), ("drop", "metric"), ("speed-up", "times"), ("metric", "metric"),
    ("trial", "text"),
)  # fmt: skip


def _standing(stage: Stage, standing: Standing, now_s: float, width: int) -> RenderableType:
    shown = _COLUMNS[: 5 if width >= _WIDE else 3 if width >= _NARROW else 2]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("plan", no_wrap=True)
    for heading, _ in shown:
        table.add_column(heading, justify="right", no_wrap=True)

    def add(name: str, values: Sequence[Value], style: str = "") -> None:
        cells = [show(kind, value) for (_, kind), value in zip(shown, values, strict=False)]
        table.add_row(Text(name), *map(Text, cells), style=style)

    add("best", _values(standing, standing.best), "bold")
    add("best uniform", _values(standing, standing.uniform))
    for index, found in enumerate(_some(standing.front, standing.best)):
        add("" if index else "front", _values(standing, found), "dim")
    for flight in standing.flights[:_FLIGHTS]:
        since = clock_time(now_s - stage.flights_s.get(flight.trial, now_s))
        add(f"in flight {since}", _flight_values(standing, flight))
    if len(standing.flights) > _FLIGHTS:
        add(f"and {len(standing.flights) - _FLIGHTS} more", [""] * len(shown))
    return table


def _values(standing: Standing, found: Found | None) -> list[Value]:
    if found is None:
        return [MISSING] * len(_COLUMNS)
    speedup = ratio(standing.baseline_s, found.latency_s)
    return [found.latency_s, found.drop, speedup, found.metric, str(found.trial)]


def _flight_values(standing: Standing, flight: Flight) -> list[Value]:
    speedup = ratio(standing.baseline_s, flight.latency_s)
    return [flight.latency_s, MISSING, speedup, MISSING, f"{flight.trial} {flight.origin}"]


def _some(front: Sequence[Found], best: Found | None) -> list[Found]:
    """A few points of a front, the best left out: those next to it, as many on either side."""
    others = [found for found in front if best is None or found.trial != best.trial]
    faster = sum(best is not None and found.latency_s < best.latency_s for found in others)
    first = min(max(faster - _FRONT // 2, 0), max(len(others) - _FRONT, 0))
    return others[first : first + _FRONT]
