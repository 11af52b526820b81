"""Prices and harms side by side: what a search chooses among."""

from collections.abc import Callable, Mapping, Sequence

from pruneaug_cli.core import DENSE, LayerChoice, Option
from pruneaug_cli.layers import PrunableLayer


def price_options(
    layers: Sequence[PrunableLayer],
    choices: Mapping[str, Sequence[LayerChoice]],
    latency_s: Callable[[PrunableLayer, LayerChoice], float],
    harm: Callable[[str, LayerChoice], float],
) -> dict[str, tuple[Option, ...]]:
    """Give every choice of every layer its latency and its harm.

    Args:
        layers: the layers, in the model's order.
        choices: what may be chosen for each, by name; dense is always among the options, first.
        latency_s: seconds of a layer under a choice in one run of the model, all its uses.
        harm: harm of a choice, by layer name; not asked for dense, whose harm is 0.

    Returns:
        Options by layer name. Dominated options are still among them.
    """
    return {
        layer.name: tuple(
            Option(
                choice,
                latency_s(layer, choice),
                0.0 if choice.is_dense else harm(layer.name, choice),
            )
            for choice in dict.fromkeys((DENSE, *choices.get(layer.name, ())))
        )
        for layer in layers
    }
