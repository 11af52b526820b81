"""Rows of ``models.py``, ``kernels.py`` and ``search.py`` as Markdown tables.

python benchmarks/table.py models.jsonl kernels.jsonl search.jsonl
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from options import refusing

from pruneaug_cli.errors import InputError
from pruneaug_cli.files import read_text, write_text
from pruneaug_cli.profiling import host_facts

Row = dict[str, Any]
_Line = TypeVar("_Line")
BEGIN, END = "<!-- results: written by make results -->", "<!-- end of results -->"
_MODEL_COLUMNS: dict[str, Callable[[Row], str]] = {
    "network": lambda row: str(row["network"]),
    "block": lambda row: str(row["block"] or "mixed"),
    "sparsity": lambda row: f"{row['sparsity']:.0%}",
    "dense": lambda row: _seconds(row["dense_s"]),
    "sparse": lambda row: _seconds(row["sparse_s"]),
    "speed-up": lambda row: f"**{row['speedup']:.2f}×**",
    "without our library": lambda row: _ratio(row, "stock_s"),
    "DeepSparse": lambda row: _ratio(row, "deepsparse_s"),
    "DeepSparse, unstructured": lambda row: _ratio(row, "deepsparse_unstructured_s"),
    "OpenVINO, dense": lambda row: _ratio(row, "openvino_s"),
    "predicted": lambda row: (
        "–"
        if row["predicted_s"] is None
        else f"{_seconds(row['predicted_s'])} ({row['prediction_error']:+.1%})"
    ),
    "file": lambda row: f"{_mega(row['dense_size_bytes'])} → {_mega(row['size_bytes'])} MB",
}
_KERNEL_COLUMNS: dict[str, Callable[[Row], str]] = {
    "layer": lambda row: str(row["geometry"]),
    "block": lambda row: str(row["block"]),
    "sparsity": lambda row: f"{row['sparsity']:.0%}",
    "dense": lambda row: _seconds(row["dense_s"]),
    "sparse": lambda row: _seconds(row["sparse_s"]),
    "speed-up": lambda row: f"**{row['speedup']:.2f}×**",
    "efficiency": lambda row: f"{row['efficiency']:.2f}",
    "GFLOP/s": lambda row: f"{row['gflops']:.0f}",
    "scipy": lambda row: _ratio(row, "scipy_s"),
    "torch": lambda row: _ratio(row, "torch_s"),
}


_BREAK_EVEN_COLUMNS: dict[str, Callable[[Row], str]] = {
    "layer": lambda row: str(row["geometry"]),
    "gains from": lambda row: "never" if row["break_even"] is None else f"{row['break_even']:.0%}",
    "block": lambda row: str(row["block"] or "–"),
    "speed-up at each sparsity tried": lambda row: ", ".join(
        f"{float(sparsity):.0%} {speedup:.2f}×" for sparsity, speedup in row["speedups"].items()
    ),
}


_SEARCH_COLUMNS: dict[str, Callable[[Sequence[Row]], str]] = {
    "strategy": lambda rows: f"`{rows[0]['strategy']}`",
    "seeds": lambda rows: ", ".join("–" if r["seed"] is None else str(r["seed"]) for r in rows),
    "evaluations": lambda rows: _span(rows, "evaluations", lambda number: f"{number:.0f}"),
    "best uniform plan after": lambda rows: _span(
        rows, "evaluations_to_best_uniform", lambda number: f"{number:.0f}"
    ),
    "hypervolume": lambda rows: _span(rows, "hypervolume", lambda volume: f"{volume:.3f}"),
    "wall time": lambda rows: _span(rows, "seconds", lambda seconds: f"{seconds:.0f} s"),
}


def table(rows: Sequence[Row]) -> str:
    """One table; columns that no row has anything in are left out."""
    if "strategy" in rows[-1]:
        return _search_table(rows)
    *rows, last = rows
    if "share" in last:
        summary = (
            f"{last['early']} of {last['geometries']} layers ({last['share']:.0%}) gain "
            f"at {last['at']:.0%} sparsity.\n"
        )
        return _table(rows, _BREAK_EVEN_COLUMNS) + "\n" + summary
    return _table([*rows, last], _MODEL_COLUMNS if "network" in last else _KERNEL_COLUMNS)


def _search_table(rows: Sequence[Row]) -> str:
    """A line per strategy: the mean over its seeds, and from the least to the most."""
    by_strategy: dict[str, list[Row]] = {}
    for row in rows:
        by_strategy.setdefault(row["strategy"], []).append(row)
    first = next((row for row in rows if "at" in row), {"at": []})
    columns = dict(_SEARCH_COLUMNS)
    for place, drop in enumerate(found["max_drop"] for found in first["at"]):
        columns |= _columns_at(place, f"{drop:g} lost:")
    return _table(list(by_strategy.values()), columns)


def _columns_at(place: int, title: str) -> dict[str, Callable[[Sequence[Row]], str]]:
    """What was found at one drop, the ``place``-th of every row."""

    def column(key: str, show: Callable[[float], str]) -> Callable[[Sequence[Row]], str]:
        return lambda rows: _span([r["at"][place] if "at" in r else {} for r in rows], key, show)

    return {
        f"{title} predicted": column("predicted_latency_s", _seconds),
        f"{title} measured": column("latency_s", _seconds),
        f"{title} speed-up": column("speedup", lambda speedup: f"{speedup:.2f}×"),
        f"{title} test drop": column("test_drop", lambda drop: f"{drop:.4f}"),
    }


def _span(rows: Sequence[Row], key: str, show: Callable[[float], str]) -> str:
    known = [float(row[key]) for row in rows if row.get(key) is not None]
    if not known:
        return "–"
    least, mean, most = show(min(known)), show(sum(known) / len(known)), show(max(known))
    text = mean if least == most else f"{mean} ({least} to {most})"
    return text if len(known) == len(rows) else f"{text}, {len(known)} of {len(rows)} seeds"


def _table(rows: Sequence[_Line], columns: Mapping[str, Callable[[_Line], str]]) -> str:
    cells = {name: [show(row) for row in rows] for name, show in columns.items()}
    used = {name: column for name, column in cells.items() if set(column) != {"–"}}
    lines = ["| " + " | ".join(used) + " |", "|" + "---|" * len(used)]
    lines += ["| " + " | ".join(line) + " |" for line in zip(*used.values(), strict=True)]
    return "\n".join(lines) + "\n"


def read_rows(path: Path) -> list[Row]:
    """The rows of one file.

    Raises:
        InputError: no such file, or a line is not a row.
    """
    rows = []
    for number, line in enumerate(read_text(path, kind="rows").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not JSON: {error}") from error
        known = {"speedup", "break_even", "share", "strategy"}
        if not isinstance(row, dict) or not known & set(row):
            raise InputError(f"{path}:{number}: no row of models.py, kernels.py or search.py")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: expected at least one row, found none")
    return rows


def _ratio(row: Row, column: str) -> str:
    """A peer's speed as a multiple of dense ONNX Runtime's."""
    taken = row.get(column)
    return "–" if taken is None else f"{row['dense_s'] / taken:.2f}×"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def _mega(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.3g}"


def put_into(path: Path, text: str) -> None:
    """Replace what stands between ``BEGIN`` and ``END`` in a file.

    Raises:
        InputError: the file is not there, or has not both lines once, in this order.
    """
    before, begin, rest = read_text(path, kind="Markdown").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{path}: expected the lines {BEGIN!r} and {END!r}")
    write_text(path, f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def _machine() -> str:
    facts = ", ".join(f"{key} {value}" for key, value in host_facts().items())
    return f"Written {date.today().isoformat()} on: {facts}.\n"


def main() -> None:
    """Print one table per file, or put them into a document."""
    with refusing("table.py"):
        parser = argparse.ArgumentParser(prog="table.py", description=__doc__.splitlines()[0])
        parser.add_argument("rows", type=Path, nargs="+")
        parser.add_argument("--into", type=Path, help="a document with a place for the tables")
        options = parser.parse_args()
        tables = [f"### {path.stem}\n\n{table(read_rows(path))}" for path in options.rows]
        text = "\n".join([_machine(), *tables])
        if options.into is None:
            print(text)
        else:
            put_into(options.into, text)


if __name__ == "__main__":
    main()
