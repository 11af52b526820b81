"""Platform profiles as tables: the list, and one profile's break-even points."""

from typing import Any

from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import show

_LIST = (
    Column("name", "platform"),
    Column("cpu", "processor"),
    Column("backend", "kernels"),
    Column("threads", "threads", "count"),
    Column("measurements", "measured", "count"),
    Column("date", "date"),
    Column("path", "file"),
)
_BREAK_EVEN = (
    Column("geometry", "layer"),
    Column("block", "block"),
    Column("peer_latency_s", "ONNX Runtime", "ms"),
    Column("dense_latency_s", "ours, dense", "ms"),
    Column("break_even", "pays from", "percent"),
    Column("best_sparsity", "at", "percent"),
    Column("best_speedup", "speed-up", "times"),
)


def platforms_view(document: dict[str, Any]) -> tuple[Table, ...]:
    """One row per profile."""
    rows = tuple(document["platforms"])
    notes = (
        () if rows else ("none found; make one with: pruneaug profile --task T --platform NAME",)
    )
    return (Table("Platforms", _LIST if rows else (), rows, notes),)


def platform_view(document: dict[str, Any]) -> tuple[Table, ...]:
    """From which sparsity on each block shape pays, per layer geometry."""
    platform = document["platform"]
    title = f"{platform['name']}: {platform['cpu']}, {platform['backend']} kernels, "
    title += f"{platform['threads']} thread{'' if platform['threads'] == 1 else 's'}"
    notes = [
        (
            "Pays from: the lowest sparsity that beats the faster of the two dense times; "
            "a dash: none that was measured."
        ),
        (
            f"Measured {platform['date']}: {show('count', platform['measurements'])} times, "
            f"repeated within {show('percent', platform['repeat_error'])}. File: {platform['path']}"
        ),
    ]
    if document.get("seconds") is not None:
        notes.append(f"Took {document['seconds']:.0f} s.")
    return (Table(title, _BREAK_EVEN, tuple(document["break_even"]), tuple(notes)),)
