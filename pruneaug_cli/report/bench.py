"""A side-by-side timing, as a table."""

from collections.abc import Mapping
from typing import Any

from pruneaug_cli.report.prediction import prediction_note
from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import show

_COLUMNS = (
    Column("path", "model"),
    Column("threads", "threads", "count", spare=3),
    Column("library", "runs in"),
    Column("latency_s", "median", "ms"),
    Column("spread", "spread", "percent"),
    Column("weights_bytes", "weights", "mb", spare=2),
    Column("buffers_bytes", "buffers", "mb", spare=1),
)


def bench_view(document: dict[str, Any]) -> tuple[Table, ...]:
    """One row per model; below, the speed-up and how far the outputs are apart."""
    rows = tuple(
        {**model, "library": "our kernels" if model["library"] else "stock ONNX Runtime"}
        for model in document["models"]
    )
    prediction = document.get("prediction") or {}
    notes = (
        f"Samples per run: {document['batch']}",
        "Weights and buffers: memory of our regions, buffers for one sample.",
        f"Speed-up: {show('times', document['speedup'])}",
        f"Largest difference between their outputs: {show('difference', document['max_abs_diff'])}",
        _prediction_note(prediction),
    )
    return (Table("Side by side", _COLUMNS, rows, tuple(note for note in notes if note)),)


def _prediction_note(prediction: Mapping[str, Any]) -> str:
    note = prediction_note(prediction.get("predicted_latency_s"), prediction.get("latency_s"))
    return f"{note} Measured at the speed of the profile." if note else ""
