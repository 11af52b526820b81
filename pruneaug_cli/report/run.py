"""Where a run stands, as tables: the result, the plan, and what has not run yet."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pruneaug_cli.report.family import family_table, tightened_note
from pruneaug_cli.report.finalists import finalists_tables, untrained_note
from pruneaug_cli.report.outside import outside_tables
from pruneaug_cli.report.plan import plan_table
from pruneaug_cli.report.prediction import prediction_note
from pruneaug_cli.report.skipped import skipped_tables
from pruneaug_cli.report.space import space_tables
from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import Value, number, ratio, show

Document = Mapping[str, Any]

_RESULT = (
    Column("model", "model"),
    Column("test_metric", "test", "metric"),
    Column("metric", "validation", "metric"),
    Column("predicted_s", "predicted", "ms"),
    Column("latency_s", "measured", "ms"),
    Column("spread", "spread", "percent", spare=2),
    Column("speedup", "speed-up", "times"),
    Column("size_bytes", "file", "mb", spare=1),
)
_STEPS = (  # what proves that a step has run, and the command that runs it
    ("plan", "pruneaug search CHECKPOINT --task TASK --platform PLATFORM --run {run}"),
    ("finetune", "pruneaug finetune {run}"),
    ("export", "pruneaug export {run}"),
    ("speedup", "pruneaug bench {run}"),
)


def run_view(document: Document) -> tuple[Table, ...]:
    """The result so far, the plan, how it was found, what stayed outside the regions or dense."""
    if "family" in document:
        found = (_search_note(document), _early_note(document), _left_out_note(document))
        notes = tuple(note for note in (*found, *_places(document)) if note)
        tables = [family_table(document, notes), *space_tables(document.get("space", ()))]
        return (*tables, *skipped_tables(document.get("skipped", ())))
    tables = [result_table(document)]
    if "plan" in document:
        tables.append(plan_table(document))
    tables += finalists_tables(document)
    tables += space_tables(document.get("space", ()))
    tables += outside_tables(document.get("export", {}).get("outside", ()))
    return (*tables, *skipped_tables(document.get("skipped", ())))


def result_table(document: Document) -> Table:
    """Dense and block-sparse model side by side."""
    dense, sparse = document.get("dense", {}), document.get("sparse", {})
    stock_s = number(document.get("bench", {}).get("stock_latency_s"))
    rows: list[Mapping[str, Value]] = [
        {
            **dense,
            "model": "dense",
            "speedup": ratio(dense.get("latency_s"), dense.get("latency_s")),
        },
        {
            **sparse,
            "model": "block-sparse",
            "predicted_s": document.get("predicted_latency_s"),
            "speedup": document.get("speedup"),
        },
    ]
    if stock_s is not None:
        speedup = ratio(dense.get("latency_s"), stock_s)
        rows.append({"model": "without our library", "latency_s": stock_s, "speedup": speedup})
    title = f"{document.get('task', 'run')} on {document.get('platform', 'no platform yet')}"
    return Table(title, _RESULT, tuple(rows), tuple(_result_notes(document)))


def _result_notes(document: Document) -> list[str]:
    notes = [_goal_note(document), _changes_note(document), _prediction_note(document)]
    notes += [_expected_note(document)]
    notes += [tightened_note(document.get("tightened")), _search_note(document)]
    notes += [_early_note(document), _left_out_note(document), untrained_note(document)]
    notes += [_export_note(document), *_missing_steps(document), *_places(document)]
    return [note for note in notes if note]


def _goal_note(document: Document) -> str:
    goal = document.get("goal") or {}
    drop, target_s = number(goal.get("max_drop")), number(goal.get("target_latency_s"))
    speedup = number(goal.get("target_speedup"))
    asked = [
        "" if drop is None else f"lose at most {show('metric', drop)}",
        "" if target_s is None else f"at most {show('ms', target_s)} ms",
        "" if speedup is None else f"speed-up of at least {show('times', speedup)}",
    ]
    asked = [part for part in asked if part]
    if not asked:
        return ""
    return f"Goal: {', '.join(asked)}.{_verdict(document.get('missed'))}"


def _verdict(missed: Sequence[str] | None) -> str:
    """Whether the measured files keep the goal; nothing before they were timed."""
    if missed is None:
        return ""
    return f" It is missed: {'; '.join(missed)}." if missed else " It is kept, as measured."


def _changes_note(document: Document) -> str:
    """How much of the metric was lost, on the split that the search never saw if there is one."""
    dense, sparse = document.get("dense", {}), document.get("sparse", {})
    for key, split in (("test_metric", "test"), ("metric", "validation")):
        before, after = number(dense.get(key)), number(sparse.get(key))
        if before is not None and after is not None:
            return f"Change of the metric on the {split} split: {after - before:+.4f}."
    return ""


def _expected_note(document: Document) -> str:
    """What the one-shot plan loses apart from luck; after training nobody knows."""
    expected = number(document.get("expected_drop"))
    if expected is None or "finetune" in document:
        return ""
    note = (
        "By the divergence of its outputs the plan loses about "
        f"{show('metric', expected)} on data like the search's; "
        "what validation shows beside that may be luck."
    )
    search = document.get("search") or {}
    allowed = number(search.get("max_drop"))
    if allowed is None or expected <= allowed or search.get("cautious"):
        return note
    advice = "Search again in the same folder with --cautious to hold what is expected to the drop."
    return f"{note} {advice}"


def _prediction_note(document: Document) -> str:
    measured = document.get("sparse", {}).get("latency_s")
    note = prediction_note(document.get("predicted_latency_s"), measured)
    promised, found = number(document.get("predicted_speedup")), number(document.get("speedup"))
    if not note or promised is None or found is None:
        return note
    speedups = f"predicted {show('times', promised)}, measured {show('times', found)}"
    return f"{note} Speed-up: {speedups}."


def _search_note(document: Document) -> str:
    search = document.get("search")
    if not search:
        return ""
    note = f"Search: {search.get('strategy')}, {document.get('trials', 0)} trials"
    if search.get("evaluations") is not None:
        note += f", {search['evaluations']} of them new"
    trials = {trial["number"]: trial for trial in search.get("trials", ())}
    uniform = trials.get(search.get("uniform"))
    if uniform is None:
        return f"{note}."
    return (
        f"{note}. Best uniform plan: {show('metric', number(uniform['metric']))} at "
        f"{show('ms', number(uniform['predicted_latency_s']))} ms."
    )


def _early_note(document: Document) -> str:
    """How many trials ended early, and how much of the data they were spared."""
    trials = (document.get("search") or {}).get("trials", ())
    early = [(trial["samples"], trial["of"]) for trial in trials if trial.get("samples")]
    if not early:
        return ""
    seen, of = (sum(counts) for counts in zip(*early, strict=True))
    return (
        f"Ended early, as hopeless: {len(early)} of {len(trials)} trials, which saw "
        f"{show('count', seen)} of {show('count', of)} samples."
    )


def _left_out_note(document: Document) -> str:
    """How many plans have no metric, and so are no trials."""
    plans = (document.get("search") or {}).get("left_out", 0)
    if not plans:
        return ""
    which = "One plan was" if plans == 1 else f"{plans} plans were"
    return f"{which} left out: workers died of the evaluation, or the metric was no finite number."


def _export_note(document: Document) -> str:
    export = document.get("export")
    if not export:
        return ""
    note = (
        "Exported file against PyTorch: largest difference "
        f"{show('difference', number(export.get('max_abs_diff_library')))} with our library, "
        f"{show('difference', number(export.get('max_abs_diff_stock')))} in stock ONNX Runtime "
        f"(tolerance {show('difference', number(export.get('tolerance')))})."
    )
    memory = export.get("memory")
    if not memory:
        return note
    weights, buffers = (number(memory[key]) for key in ("weights_bytes", "buffers_bytes"))
    return (
        f"{note} In memory: {show('mb', weights)} MB of packed weights, {show('mb', buffers)} MB "
        "of buffers for one sample."
    )


def _places(document: Document) -> list[str]:
    """Where to look further."""
    places = {"Report": document.get("report"), "Study": document.get("dashboard")}
    return [f"{name}: {place}" for name, place in places.items() if place]


def _missing_steps(document: Document) -> list[str]:
    run = shlex.quote(str(document.get("run", "RUN")))
    cannot = () if document.get("trainable", True) else ("finetune",)
    return [
        f"not run yet: {command.format(run=run)}"
        for key, command in _STEPS
        if key not in document and key not in cannot
    ]
