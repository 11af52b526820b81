"""Plotly figures of a run: the Pareto front of the search, latency and sparsity per layer.

Names from the user's model are escaped, because Plotly reads tags in labels.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from pruneaug_cli.report.units import number

Document = Mapping[str, Any]
Trial = Mapping[str, Any]

_GREY, _BLUE, _RED, _ORANGE, _GREEN = "#9aa5b1", "#2b6cb0", "#c53030", "#dd6b20", "#2f855a"


def pareto_figure(document: Document) -> go.Figure | None:
    """Every trial by predicted latency and metric; ``None`` before the search."""
    search = document.get("search") or {}
    trials = [trial for trial in search.get("trials", ()) if _is_complete(trial)]
    if not trials:
        return None
    on_front = set(search.get("front", ()))
    front = sorted(_pick(trials, on_front), key=lambda trial: trial["predicted_latency_s"])
    figure = go.Figure()
    figure.add_trace(_points("trials", trials, color=_GREY, size=7))
    figure.add_trace(_points("Pareto front", front, color=_BLUE, size=8, line=True))
    figure.add_trace(_points(
        "best uniform plan", _pick(trials, {search.get("uniform")}), color=_ORANGE, size=13,
        symbol="square",
    ))  # fmt: skip
    figure.add_trace(_points(
        "chosen", _pick(trials, {search.get("chosen")}), color=_RED, size=16, symbol="star"
    ))  # fmt: skip
    _add_dense(figure, document)
    _add_limits(figure, document)
    return _label(figure, "Search: every plan that was tried", "predicted latency (ms)", "metric")


def latency_figure(document: Document) -> go.Figure | None:
    """Predicted latency of each layer, dense and as chosen; ``None`` before the search."""
    layers = [layer for layer in document.get("layers", ()) if number(layer.get("latency_s"))]
    if not layers:
        return None
    names = [html.escape(layer["name"]) for layer in layers]
    figure = go.Figure()
    for name, key, color in (("dense", "dense_latency_s", _GREY), ("chosen", "latency_s", _BLUE)):
        figure.add_trace(go.Bar(
            name=name, x=names, y=[_ms(layer.get(key)) for layer in layers], marker_color=color
        ))  # fmt: skip
    return _label(figure, "Predicted latency per layer", "layer", "latency (ms)")


def sparsity_figure(document: Document) -> go.Figure | None:
    """Sparsity of each layer: the plan's, and what was counted in the file; ``None`` before."""
    plan = document.get("plan")
    if not plan:
        return None
    ordered = [layer["name"] for layer in document.get("layers", ()) if layer["name"] in plan]
    ordered += [name for name in plan if name not in ordered]
    choices = [plan[name] for name in ordered]
    names = [html.escape(name) for name in ordered]
    planned = [choice["sparsity"] if isinstance(choice, Mapping) else 0.0 for choice in choices]
    labels = [choice["block"] if isinstance(choice, Mapping) else "" for choice in choices]
    figure = go.Figure()
    figure.add_trace(go.Bar(
        name="plan", x=names, y=[_percent(value) for value in planned], text=labels,
        marker_color=_BLUE,
    ))  # fmt: skip
    counted = (document.get("export") or {}).get("sparsity")
    if counted:
        figure.add_trace(go.Bar(
            name="counted in the file", x=names, marker_color=_GREEN,
            y=[_percent(counted.get(name)) for name in ordered],
        ))  # fmt: skip
    return _label(figure, "Sparsity per layer", "layer", "blocks removed (%)")


def _points(
    name: str, trials: Sequence[Trial], *, color: str, size: int, symbol: str = "circle",
    line: bool = False,
) -> go.Scatter:  # fmt: skip
    return go.Scatter(
        name=name,
        x=[_ms(trial["predicted_latency_s"]) for trial in trials],
        y=[trial["metric"] for trial in trials],
        text=[f"trial {trial['number']}, {html.escape(str(trial['origin']))}" for trial in trials],
        mode="lines+markers" if line else "markers",
        marker={"color": color, "size": size, "symbol": symbol},
    )


def _add_dense(figure: go.Figure, document: Document) -> None:
    latency = number(document.get("dense", {}).get("latency_s"))
    metric = number(document.get("dense", {}).get("metric"))
    if latency is not None and metric is not None:
        figure.add_trace(go.Scatter(
            name="dense", x=[latency * 1e3], y=[metric], mode="markers",
            marker={"color": "black", "size": 12, "symbol": "diamond"},
        ))  # fmt: skip


def _add_limits(figure: go.Figure, document: Document) -> None:
    """Draw the floor of the metric and the latency target as lines."""
    goal, dense = document.get("goal") or {}, number(document.get("dense", {}).get("metric"))
    drop, target = number(goal.get("max_drop")), number(goal.get("target_latency_s"))
    if drop is not None and dense is not None:
        sign = 1.0 if document.get("higher_is_better", True) else -1.0
        figure.add_hline(y=dense - sign * drop, line_dash="dot", annotation_text="goal")
    if target is not None:
        figure.add_vline(x=target * 1e3, line_dash="dot", annotation_text="target")


def _label(figure: go.Figure, title: str, x: str, y: str) -> go.Figure:
    return figure.update_layout(
        title=title, xaxis_title=x, yaxis_title=y, template="plotly_white", height=460,
        legend={"orientation": "h", "y": -0.3}, margin={"l": 60, "r": 20, "t": 50, "b": 60},
    )  # fmt: skip


def _is_complete(trial: Trial) -> bool:
    return None not in (number(trial.get("predicted_latency_s")), number(trial.get("metric")))


def _pick(trials: Sequence[Trial], numbers: set[Any]) -> list[Trial]:
    return [trial for trial in trials if trial["number"] in numbers]


def _ms(seconds: object) -> float | None:
    value = number(seconds)
    return None if value is None else value * 1e3


def _percent(fraction: object) -> float | None:
    value = number(fraction)
    return None if value is None else value * 100
