"""Plotly figures of what pruning costs: harm against sparsity, and how much each layer's counts."""

import html
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from pruneaug_cli.report.plan import harm_in_words
from pruneaug_cli.report.plots import BLUE, RED, label
from pruneaug_cli.report.units import number

Document = Mapping[str, Any]

_COLUMNS = 4  # of panels
_PANEL = 300  # height
_TICKS = [float(f"{digit}e{power}") for power in range(-12, 4) for digit in (1, 3)]


def harm_figure(document: Document) -> go.Figure | None:
    """Harm of every option against its sparsity: a panel per block, a line per layer.

    What the plan chose is marked. ``None`` when nothing is known of the options.
    """
    layers = [layer for layer in document.get("layers", ()) if layer.get("options")]
    blocks = sorted({block for layer in layers for block in layer["options"]}, key=_area)
    if not blocks:
        return None
    columns = min(len(blocks), _COLUMNS)
    rows = -(-len(blocks) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes="all",
        subplot_titles=[f"block {block}" for block in blocks],
        horizontal_spacing=0.03, vertical_spacing=0.25 / rows,
    )  # fmt: skip
    named: set[str] = set()
    for index, layer in enumerate(layers):
        color = sample_colorscale("Viridis", index / max(len(layers) - 1, 1) * 0.9)[0]
        for block, options in layer["options"].items():
            place = blocks.index(block)
            trace = _line(layer["name"], options, color, in_legend=layer["name"] not in named)
            figure.add_trace(trace, row=place // columns + 1, col=place % columns + 1)
            named.add(layer["name"])
    _mark_chosen(figure, document, blocks, columns)
    label(figure, "Sensitivity: harm against sparsity", "", "", height=140 + _PANEL * rows)
    figure.update_layout(legend={
        "orientation": "v", "x": 1.02, "xanchor": "left", "y": 1.0, "yanchor": "top",
    })  # fmt: skip
    removed = [
        100.0 * s for layer in layers for o in layer["options"].values() for s in o["sparsity"]
    ]
    span = [min(removed) - 3.0, max(removed) + 3.0]
    figure.update_xaxes(title_text="blocks removed (%)", range=span)
    figure.update_yaxes(type="log", tickvals=_TICKS, tickformat=".1~g")
    return figure.update_yaxes(title_text=f"harm: {harm_in_words(document)}", col=1)


def coefficient_figure(document: Document) -> go.Figure | None:
    """What the trials say of every layer's coefficient; ``None`` when nothing was learnt."""
    known = {
        layer["name"]: layer["coefficient"]
        for layer in document.get("layers", ())
        if layer.get("coefficient")
    }
    if not known:
        return None
    values, lows, highs = (
        [float(coefficient[key]) for coefficient in known.values()]
        for key in ("value", "low", "high")
    )
    figure = go.Figure(go.Scatter(
        x=[html.escape(name) for name in known], y=values, mode="markers",
        marker={"color": BLUE, "size": 9},
        error_y={
            "type": "data", "symmetric": False,
            "array": [high - value for high, value in zip(highs, values, strict=True)],
            "arrayminus": [value - low for low, value in zip(lows, values, strict=True)],
        },
        hovertemplate="%{x}<br>%{y:.2f}",
    ))  # fmt: skip
    figure.add_hline(y=1.0, line_dash="dot")
    figure.update_yaxes(type="log", tickvals=_TICKS, tickformat=".1~g")
    title = "How much each layer's harm matters to the metric, learnt from the trials"
    return label(figure, title, "layer", "coefficient (1: as its harm says)")


def _line(name: str, options: Mapping[str, Any], color: str, *, in_legend: bool) -> go.Scatter:
    pairs = [
        (100.0 * sparsity, harm)
        for sparsity, harm in zip(options["sparsity"], options["harm"], strict=True)
        if number(harm)
    ]
    return go.Scatter(
        name=html.escape(name), legendgroup=name, showlegend=in_legend,
        x=[sparsity for sparsity, _ in pairs], y=[harm for _, harm in pairs],
        mode="lines+markers", line={"color": color, "width": 1.5}, marker={"size": 4},
        hovertemplate="%{fullData.name}<br>%{x:.3g}% removed, harm %{y:.3g}<extra></extra>",
    )  # fmt: skip


def _mark_chosen(figure: go.Figure, document: Document, blocks: list[str], columns: int) -> None:
    harms = {layer["name"]: number(layer.get("harm")) for layer in document.get("layers", ())}
    plan = document.get("plan") or {}
    for place, block in enumerate(blocks):
        chosen = [
            (name, 100.0 * choice["sparsity"], harms.get(name))
            for name, choice in plan.items()
            if isinstance(choice, Mapping) and choice["block"] == block and harms.get(name)
        ]
        figure.add_trace(go.Scatter(
            name="chosen", legendgroup="chosen", showlegend=place == 0,
            x=[sparsity for _, sparsity, _ in chosen], y=[harm for _, _, harm in chosen],
            text=[html.escape(name) for name, _, _ in chosen], mode="markers",
            marker={"color": RED, "size": 12, "symbol": "circle-open", "line": {"width": 2}},
            hovertemplate="%{text}: chosen<br>%{x:.3g}% removed, harm %{y:.3g}<extra></extra>",
        ), row=place // columns + 1, col=place % columns + 1)  # fmt: skip


def _area(block: str) -> tuple[int, str]:
    """Order of blocks: by how many weights they hold."""
    rows, _, cols = block.partition("x")
    return (int(rows) * int(cols) if rows.isdecimal() and cols.isdecimal() else 0, block)
