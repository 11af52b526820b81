"""Plotly figures of a run: the plans that were tried, and where the time goes.

Names from the user's model are escaped, because Plotly reads tags in labels. What is measured in
seconds is drawn in milliseconds or microseconds, and says so.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from pruneaug_cli.report.units import number, ratio, show

Document = Mapping[str, Any]
Trial = Mapping[str, Any]

GREY, BLUE, RED, ORANGE, GREEN = "#9aa5b1", "#2b6cb0", "#c53030", "#dd6b20", "#2f855a"
REST = "rest of the network"
EARLY = "ended early: estimates"


def pareto_figure(document: Document) -> go.Figure | None:
    """Every trial by predicted latency and metric; ``None`` before the search."""
    search = document.get("search") or {}
    trials = [trial for trial in search.get("trials", ()) if _is_complete(trial)]
    if not trials:
        return None
    early = [trial for trial in trials if trial.get("samples")]
    front = sorted(
        _pick(trials, set(search.get("front", ()))), key=lambda t: float(t["predicted_latency_s"])
    )
    figure = go.Figure()
    for name, points, style in (
        ("trials", [t for t in trials if t not in early], {"color": GREY, "size": 7}),
        (EARLY, early, {"color": GREY, "size": 6, "symbol": "x-thin-open"}),
        ("Pareto front", front, {"color": BLUE, "size": 8}),
        ("best uniform plan", _pick(trials, {search.get("uniform")}),
         {"color": ORANGE, "size": 13, "symbol": "square"}),
        ("chosen", _pick(trials, _chosen(document)),
         {"color": RED, "size": 16, "symbol": "star"}),
    ):  # fmt: skip
        if points or name != EARLY:
            line = name == "Pareto front"
            figure.add_trace(_points(name, points, document, style, line=line))
    _add_model(figure, "dense", document.get("dense", {}), "diamond")
    _add_model(figure, "exported, measured", document.get("sparse", {}), "diamond-open")
    _add_limits(figure, document)
    _add_zoom(figure, document)
    return label(figure, "Search: every plan that was tried", "predicted latency (ms)", "metric")


def latency_figure(document: Document) -> go.Figure | None:
    """Predicted latency of each layer, dense and as chosen, with its share of the network's.

    What no choice changes has bars of its own, and counts in both shares.
    """
    layers = [layer for layer in document.get("layers", ()) if number(layer.get("latency_s"))]
    if not layers:
        return None
    rest_s = _rest_s(document)
    names = [html.escape(layer["name"]) for layer in layers] + [REST] * (rest_s is not None)
    figure = go.Figure()
    for name, key, color in (("dense", "dense_latency_s", GREY), ("chosen", "latency_s", BLUE)):
        times = [number(layer.get(key)) for layer in layers]
        times += [] if rest_s is None else [rest_s]
        total = sum(time for time in times if time is not None)
        shares = [show("percent", ratio(time, total)) for time in times]
        figure.add_trace(go.Bar(
            name=name, x=names, y=[_scaled(time, 1e6) for time in times], text=shares,
            marker_color=color, textposition="outside", cliponaxis=False,
            hovertemplate="%{x}<br>%{y:.4g} µs, %{text} of the network",
        ))  # fmt: skip
    figure.update_layout(uniformtext={"minsize": 9, "mode": "hide"})
    title = "Predicted latency per layer, and its share of the network"
    return label(figure, title, "layer", "latency (µs)")


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
        name="plan", x=names, y=[_scaled(value, 100) for value in planned], text=labels,
        marker_color=BLUE,
    ))  # fmt: skip
    counted = (document.get("export") or {}).get("sparsity")
    if counted:
        figure.add_trace(go.Bar(
            name="counted in the file", x=names, marker_color=GREEN,
            y=[_scaled(counted.get(name), 100) for name in ordered],
        ))  # fmt: skip
    return label(figure, "Block shape and sparsity per layer", "layer", "blocks removed (%)")


def label(figure: go.Figure, title: str, x: str, y: str, height: int = 460) -> go.Figure:
    """Give a figure its title, the names of its axes, and the look of all of them."""
    return figure.update_layout(
        title=title, xaxis_title=x, yaxis_title=y, template="plotly_white", height=height,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
        margin={"l": 60, "r": 20, "t": 80, "b": 60},
    )  # fmt: skip


def _chosen(document: Document) -> set[Any]:
    """Numbers of the trials that were taken: of every member in a family."""
    members = {member.get("trial") for member in document.get("family", ())}
    return members or {(document.get("search") or {}).get("chosen")}


def _points(
    name: str, trials: Sequence[Trial], document: Document, style: Mapping[str, Any], *, line: bool
) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=[_scaled(trial["predicted_latency_s"], 1e3) for trial in trials],
        y=[trial["metric"] for trial in trials],
        text=[_describe(trial, document) for trial in trials],
        hovertemplate="%{x:.4g} ms, metric %{y:.4f}<br>%{text}",
        mode="lines+markers" if line else "markers",
        marker=dict(style),
    )


def _describe(trial: Trial, document: Document) -> str:
    """Speed-up over dense, number and origin of a trial; what was seen, where it ended early."""
    dense_s = document.get("dense", {}).get("latency_s")
    speedup = ratio(dense_s, trial["predicted_latency_s"])
    faster = "" if speedup is None else f"{show('times', speedup)}, "
    text = f"{faster}trial {trial['number']}, {html.escape(str(trial['origin']))}"
    if not trial.get("samples"):
        return text
    seen, of = show("count", trial["samples"]), show("count", trial["of"])
    return f"{text}<br>ended early: {seen} of {of} samples"


def _add_model(figure: go.Figure, name: str, model: Mapping[str, Any], symbol: str) -> None:
    latency, metric = number(model.get("latency_s")), number(model.get("metric"))
    if latency is not None and metric is not None:
        figure.add_trace(go.Scatter(
            name=name, x=[latency * 1e3], y=[metric], mode="markers",
            hovertemplate="%{x:.4g} ms, metric %{y:.4f}",
            marker={"color": "black", "size": 12, "symbol": symbol},
        ))  # fmt: skip


def _add_limits(figure: go.Figure, document: Document) -> None:
    """Draw floors of the metric and targets as lines: as asked, and as the search worked under."""
    dense = number(document.get("dense", {}).get("metric"))
    sign = 1.0 if document.get("higher_is_better", True) else -1.0
    asked = [number(goal.get("max_drop")) for goal in _goals(document)]
    floors = {drop: "floor" for drop in asked if drop is not None}
    searched = number((document.get("search") or {}).get("max_drop"))
    if searched is not None:
        floors.setdefault(searched, "floor before training")
    for drop, text in floors.items():
        if dense is None:
            break
        y = dense - sign * drop
        figure.add_hline(
            y=y, line_dash="dot", annotation_text=f"{text} {show('metric', y)}",
            annotation_position="bottom right" if sign > 0.0 else "top right",
        )  # fmt: skip
    targets = [number(goal.get("target_latency_s")) for goal in _goals(document)]
    for target in dict.fromkeys(target for target in targets if target is not None):
        text = f"target {show('ms', target)} ms"
        figure.add_vline(x=target * 1e3, line_dash="dot", annotation_text=text)


def _goals(document: Document) -> list[Mapping[str, Any]]:
    """The goal, or that of every member of a family."""
    members = [member.get("goal") or {} for member in document.get("family", ())]
    return members or [document.get("goal") or {}]


def _add_zoom(figure: go.Figure, document: Document) -> None:
    """Buttons: all plans, or those near the floor, which hopeless ones would press into a line."""
    limits = (*_goals(document), document.get("search") or {})
    drops = [number(limit.get("max_drop")) for limit in limits]
    drop = max((drop for drop in drops if drop is not None), default=0.0)
    dense = number(document.get("dense", {}).get("metric"))
    if dense is None or drop <= 0.0:
        return
    sign = 1.0 if document.get("higher_is_better", True) else -1.0
    near = sorted((dense + sign * drop, dense - sign * 4.0 * drop))
    figure.update_layout(updatemenus=[{
        "type": "buttons", "direction": "right", "x": 0.0, "xanchor": "left", "y": 1.0,
        "yanchor": "bottom", "buttons": [
            {"label": "all", "method": "relayout", "args": [{"yaxis.autorange": True}]},
            {"label": "near the floor", "method": "relayout", "args": [{"yaxis.range": near}]},
        ],
    }])  # fmt: skip


def _rest_s(document: Document) -> float | None:
    """What the network takes beyond its layers; None where that is unknown, or not positive."""
    total = number(document.get("predicted_latency_s"))
    times = [number(layer.get("latency_s")) for layer in document.get("layers", ())]
    if total is None or None in times:
        return None
    rest_s = total - sum(time for time in times if time is not None)
    return rest_s if rest_s > 0.0 else None


def _is_complete(trial: Trial) -> bool:
    return None not in (number(trial.get("predicted_latency_s")), number(trial.get("metric")))


def _pick(trials: Sequence[Trial], numbers: set[Any]) -> list[Trial]:
    return [trial for trial in trials if trial["number"] in numbers]


def _scaled(value: object, factor: float) -> float | None:
    known = number(value)
    return None if known is None else known * factor
