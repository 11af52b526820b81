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
    if document.get("targets"):
        latencies |= {f"target {t['name']}": t["target_latency_s"] for t in document["targets"]}
    elif document["target_latency_s"] is not None:
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
    count, before = show("count", document["layers"]), document["space_before"]
    space = f"Plans: 10^{before:.0f}, after cuts 10^{document['space_after']:.0f}."
    return (f"Prunable layers: {count}. {space}", *_verdicts(document))


def _verdicts(document: dict[str, Any]) -> tuple[str, ...]:
    """What can be reached: one verdict, or those on the targets of a family."""
    if document.get("targets"):
        names: dict[str, list[str]] = {}
        for target in sorted(document["targets"], key=lambda target: not target["satisfiable"]):
            verdict = "can be reached"
            if not target["satisfiable"]:
                verdict = f"cannot be reached, {_why_not(document, target)}"
            names.setdefault(verdict, []).append(target["name"])
        return tuple(f"Targets that {verdict}: {', '.join(of)}." for verdict, of in names.items())
    if document["satisfiable"] is None:
        return (
            "No latency target: the search looks for the fastest plan above the accuracy floor.",
        )
    if document["satisfiable"]:
        return ("The target can be reached.",)
    return (f"The target cannot be reached: {_why_not(document, document)}.",)


def _why_not(document: dict[str, Any], target: dict[str, Any]) -> str:
    """Whether it is the margin that no plan leaves, or the target itself that none reaches."""
    if document["min_latency_s"] > target["target_latency_s"]:
        return "no plan is that fast"
    return f"no plan is that fast with a margin of {100.0 * document['margin']:.3g}%"
