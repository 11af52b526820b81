"""The HTML report of a run: one file that opens without a network, the same bytes for one result.

Plotly's JavaScript (about 4.5 MB) is inside the file. Everything that comes from the user is
escaped.
"""

import html
from collections.abc import Mapping
from typing import Any

from plotly.offline import get_plotlyjs

from pruneaug_cli.report.plots import latency_figure, pareto_figure, sparsity_figure
from pruneaug_cli.report.run import run_view
from pruneaug_cli.report.sensitivity import coefficient_figure, harm_figure
from pruneaug_cli.report.table import Column, Table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em;
       color: #1a202c; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
section { overflow-x: auto; } figure { margin: 2em 0 0; }
table { border-collapse: collapse; font-size: 0.93em; }
th, td { padding: 0.3em 0.6em; border-bottom: 1px solid #e2e8f0; text-align: left;
         white-space: nowrap; }
th { border-bottom: 2px solid #718096; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
p { color: #4a5568; margin: 0.4em 0; }
"""
_PLOTS = (
    ("pareto", pareto_figure),
    ("latency", latency_figure),
    ("sparsity", sparsity_figure),
    ("harm", harm_figure),
    ("coefficients", coefficient_figure),
)
_SECONDS = (Column("step", "step"), Column("seconds", "seconds", "count"))


def render_html(document: Mapping[str, Any]) -> str:
    """Render the result document of a run (see ``app/results.py``) as a whole page."""
    result, *rest = run_view(document)
    title = html.escape(f"pruneaug: {result.title}")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style>",
        f"<script>{get_plotlyjs()}</script>",
        f"</head><body><h1>{title}</h1>",
        result.to_html(),
        *_plots(document),
        *(table.to_html() for table in rest),
        *_seconds(document),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _plots(document: Mapping[str, Any]) -> list[str]:
    figures = ((name, make(document)) for name, make in _PLOTS)
    return [
        f'<figure aria-label="{html.escape(figure.layout.title.text)}">'
        + str(figure.to_html(
            full_html=False, include_plotlyjs=False, div_id=f"plot-{name}",
            config={"displaylogo": False, "responsive": True},
        ))
        + "</figure>"
        for name, figure in figures
        if figure is not None
    ]  # fmt: skip


def _seconds(document: Mapping[str, Any]) -> list[str]:
    seconds = document.get("seconds") or {}
    rows = tuple({"step": step, "seconds": value} for step, value in seconds.items())
    return [Table("Time spent", _SECONDS, rows).to_html()] if rows else []
