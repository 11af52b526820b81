"""A side-by-side timing, as a table."""

from typing import Any

from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import show

_COLUMNS = (
    Column("path", "model"),
    Column("threads", "threads", "count"),
    Column("library", "runs in"),
    Column("latency_s", "median", "ms"),
    Column("spread", "spread", "percent"),
    Column("weights_bytes", "weights", "mb"),
    Column("buffers_bytes", "buffers", "mb"),
)


def bench_view(document: dict[str, Any]) -> tuple[Table, ...]:
    """One row per model; below, the speed-up and how far the outputs are apart."""
    rows = tuple(
        {**model, "library": "our kernels" if model["library"] else "stock ONNX Runtime"}
        for model in document["models"]
    )
    return (
        Table(
            "Side by side",
            _COLUMNS,
            rows,
            (
                f"Samples per run: {document['batch']}",
                "Weights and buffers: memory of our regions, buffers for one sample.",
                f"Speed-up: {show('times', document['speedup'])}",
                (
                    "Largest difference between their outputs: "
                    f"{show('difference', document['max_abs_diff'])}"
                ),
            ),
        ),
    )
