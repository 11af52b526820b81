"""What was chosen for each layer, and what the next best choice would have cost, as a table."""

from collections.abc import Mapping
from typing import Any

from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import Value, number, ratio

_COLUMNS = (
    Column("name", "layer"),
    Column("geometry", "geometry", spare=4),
    Column("choice", "choice"),
    Column("dense_latency_s", "dense", "us", spare=3),
    Column("latency_s", "chosen", "us"),
    Column("share", "share", "percent", spare=5),
    Column("speedup", "speed-up", "times", spare=1),
    Column("harm", "harm", "harm", spare=2),
    Column("runner_up", "runner-up"),
    Column("more_s", "costs", "more_us"),
    Column("more", "of all", "more_percent"),
)
_HARM = {"loss": "estimated rise of the loss", "output": "relative error of the layer's output"}
_RUNNER_UP = (
    "Runner-up: the fastest other block, or to stay dense, that does no more harm; what it would "
    "have cost in time, and in per cent of the network's."
)


def plan_table(document: Mapping[str, Any]) -> Table:
    """Layers in the model's order; those of which no details are known come last."""
    details = {layer["name"]: layer for layer in document.get("layers", ())}
    plan, network_s = document["plan"], document.get("predicted_latency_s")
    names = [*(name for name in details if name in plan)]
    names += [name for name in plan if name not in details]
    rows = tuple(_row(name, plan[name], details.get(name, {}), network_s) for name in names)
    times = (
        "Dense and chosen: predicted times of all uses of the layer, in our kernels; share: of the "
        f"network's. Harm: {harm_in_words(document)}."
    )
    return Table("Plan", _COLUMNS, rows, (times, _RUNNER_UP))


def harm_in_words(document: Mapping[str, Any]) -> str:
    """What the harms of a result mean; older results say it of their search only."""
    search = document.get("search") or {}
    return _HARM[str(document.get("harm") or search.get("harm", "output"))]


def choice_in_words(choice: object) -> str:
    """A choice as documents write it, for people.

    Example:
        >>> choice_in_words({"block": "8x1", "sparsity": 0.875}), choice_in_words("dense")
        ('8x1 @ 87.5%', 'dense')
    """
    if not isinstance(choice, Mapping) or not choice.get("block"):
        return "dense"
    sparsity = number(choice.get("sparsity"))
    return str(choice["block"]) + ("" if sparsity is None else f" @ {100 * sparsity:.3g}%")


def _row(
    name: str, choice: object, detail: Mapping[str, Any], network_s: object
) -> Mapping[str, Value]:
    dense_s, chosen_s = detail.get("dense_latency_s"), detail.get("latency_s")
    runner_up = detail.get("runner_up")
    more_s = _difference(runner_up.get("latency_s"), chosen_s) if runner_up else None
    return {
        "name": name,
        "geometry": detail.get("geometry"),
        "choice": choice_in_words(choice),
        "dense_latency_s": number(dense_s),
        "latency_s": number(chosen_s),
        "share": ratio(chosen_s, network_s),
        "speedup": ratio(dense_s, chosen_s),
        "harm": number(detail.get("harm")),
        "runner_up": choice_in_words(runner_up) if runner_up else None,
        "more_s": more_s,
        "more": ratio(more_s, network_s),
    }


def _difference(one: object, other: object) -> float | None:
    first, second = number(one), number(other)
    return None if first is None or second is None else first - second
