"""What a search could reach, before anything is spent, as tables."""

from typing import Any

from pruneaug_cli.report.skipped import skipped_tables
from pruneaug_cli.report.space import space_tables
from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import ratio, show

_COLUMNS = (
    Column("what", "whole model, predicted"),
    Column("latency_s", "latency", "ms"),
    Column("speedup", "speed-up", "times"),
)


def preflight_view(document: dict[str, Any]) -> tuple[Table, ...]:
    """Reachable latencies, whether the target is among them, and the size of the search space."""
    baseline = document["baseline_latency_s"]
    latencies = {
        "dense in ONNX Runtime": baseline,
        "nothing pruned, in our kernels": document["dense_latency_s"],
        "fastest plan": document["min_latency_s"],
        "no choice changes this part": document["rest_s"],
    }
    if document["target_latency_s"] is not None:
        latencies["target"] = document["target_latency_s"]
    rows = tuple(
        {"what": what, "latency_s": value, "speedup": ratio(baseline, value)}
        for what, value in latencies.items()
    )
    title = f"Before the search: {document['task']} on {document['platform']}"
    skipped = [{"name": name, "reason": reason} for name, reason in document["skipped"].items()]
    return (
        Table(title, _COLUMNS, rows, _notes(document)),
        *space_tables(document.get("space", ())),
        *skipped_tables(skipped),
    )


def _notes(document: dict[str, Any]) -> tuple[str, ...]:
    verdict = {
        True: "The target can be reached.",
        False: "The target cannot be reached: no plan is that fast.",
        None: "No latency target: the search looks for the fastest plan above the accuracy floor.",
    }
    return (
        (
            f"Prunable layers: {show('count', document['layers'])}. Plans: "
            f"10^{document['space_before']:.0f}, after cuts 10^{document['space_after']:.0f}."
        ),
        verdict[document["satisfiable"]],
    )
