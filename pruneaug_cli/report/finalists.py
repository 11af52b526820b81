"""The plans of a search that were trained for a short time, as a table."""

from collections.abc import Mapping
from typing import Any

from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import Value

_COLUMNS = (
    Column("trial", "trial", "count"),
    Column("predicted_latency_s", "predicted", "ms"),
    Column("metric_before", "one-shot", "metric"),
    Column("metric_after", "after training", "metric"),
    Column("chosen", "chosen"),
)


def finalists_tables(document: Mapping[str, Any]) -> tuple[Table, ...]:
    """One row per finalist, in the order they were trained; no table without any."""
    search = document.get("search") or {}
    latencies = {t["number"]: t["predicted_latency_s"] for t in search.get("trials", ())}
    rows: list[Mapping[str, Value]] = [
        {
            **finalist,
            "predicted_latency_s": latencies.get(finalist["trial"]),
            "chosen": "yes" if finalist["trial"] == search.get("chosen") else "no",
        }
        for finalist in search.get("finalists", ())
    ]
    if not rows:
        return ()
    note = "Metrics on the validation split; the training is a short one, of the search."
    return (Table("Finalists", _COLUMNS, tuple(rows), (note,)),)


def untrained_note(document: Mapping[str, Any]) -> str:
    """What it means that there was no time to train every finalist; empty when there was."""
    search = document.get("search") or {}
    if not search.get("finalists_untrained"):
        return ""
    count = len(search.get("finalists", ()))
    answer = f"the best of {count} that were" if count else "the search's own"
    return (
        f"search.timeout was over before all finalists were trained: the answer is {answer}. "
        "To train the others, search again in the same folder."
    )
