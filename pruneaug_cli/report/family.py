"""A family of goals answered from one study, as a table."""

from collections.abc import Mapping
from typing import Any

from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import Value, number, show

_COLUMNS = (
    Column("name", "goal"),
    Column("trial", "trial", "count"),
    Column("test_metric", "test", "metric"),
    Column("metric", "validation", "metric"),
    Column("drop", "drop", "metric"),
    Column("predicted_latency_s", "predicted", "ms"),
    Column("latency_s", "measured", "ms"),
    Column("predicted_speedup", "predicted speed-up", "times"),
    Column("speedup", "measured speed-up", "times"),
    Column("size_bytes", "file", "mb"),
    Column("met", "met"),
)
_MET = {True: "yes", False: "no", None: None}


def family_table(document: Mapping[str, Any], notes: tuple[str, ...]) -> Table:
    """The dense model, and one row for each goal."""
    dense = document.get("dense", {})
    rows: list[Mapping[str, Value]] = [{**dense, "name": "dense"}]
    rows += [{**member, "met": _MET[member.get("met")]} for member in document["family"]]
    title = f"{document.get('task', 'run')} on {document.get('platform', 'no platform yet')}"
    return Table(
        title, _COLUMNS, tuple(rows), (*_tightened(document), *_unanswered(document), *notes)
    )


def tightened_note(steps: object) -> str:
    """How often a latency target was tightened, and where that ended; empty when never."""
    if not isinstance(steps, list) or not steps:
        return ""
    times = "once" if len(steps) == 1 else f"{len(steps)} times"
    last = steps[-1]
    note = (
        f"The target was missed as measured and tightened {times}: at last to "
        f"{show('ms', number(last['planned_latency_s']))} ms predicted, after "
        f"{show('ms', number(last['latency_s']))} ms were measured where "
        f"{show('ms', number(last['predicted_latency_s']))} ms had been predicted"
    )
    return f"{note}." if last.get("reason") is None else f"{note}; in vain: {last['reason']}."


def _tightened(document: Mapping[str, Any]) -> tuple[str, ...]:
    names = [member["name"] for member in document["family"] if member.get("tightened")]
    if not names:
        return ()
    return (f"Missed as measured, and tightened: {', '.join(names)}.",)


def _unanswered(document: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"Goal {entry['name']}: {entry['reason']}." for entry in document.get("unanswered", ())
    )
