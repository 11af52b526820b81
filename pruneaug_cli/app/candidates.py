"""Which choices each layer has: what the platform serves, the recipe allows, and the cuts leave.

The cuts, after PruneAug: equal geometries share one set; a block holds at most
``AREA_FRACTION`` of its layer; a choice that is not faster than staying dense, by more than the
profile's error, is no candidate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10

from pruneaug_cli.app.layer_rules import LayerRule, LayerRules
from pruneaug_cli.app.recipe import SearchSettings
from pruneaug_cli.core import DENSE, BlockShape, Geometry, LayerChoice
from pruneaug_cli.layers import PrunableLayer
from pruneaug_cli.platforms import LatencyTable

AREA_FRACTION = 0.01
"""Largest part of a layer that one block may hold; blocks of up to 32 weights always may."""

SPARSITIES = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Searched when the recipe names none, as far as the profile has measured."""

_SMALL_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Candidates:
    """Choices per layer, dense first, and how large the space was before the cuts.

    Attributes:
        choices: per layer, in the model's order.
        log10_before: plans before the cuts, as a power of ten.
        log10_after: plans after them.
    """

    choices: Mapping[str, tuple[LayerChoice, ...]]
    log10_before: float
    log10_after: float


def find_candidates(
    layers: Sequence[PrunableLayer],
    rules: LayerRules,
    settings: SearchSettings,
    table: LatencyTable,
) -> Candidates:
    """List the choices of every layer.

    Raises:
        UnsupportedError: the recipe names a block or sparsity that the profile has not measured.
    """
    choices: dict[str, tuple[LayerChoice, ...]] = {}
    before = 0.0
    for layer in layers:
        rule = rules.rules_for(layer.name, layer.geometry.op)
        served = _served(layer.geometry, rule, settings, table)
        before += log10(1 + len(served))
        allowed = [c for c in served if _is_candidate(layer.geometry, c, rule, table)]
        choices[layer.name] = (DENSE, *allowed)
    after = sum(log10(len(options)) for options in choices.values())
    return Candidates(choices, before, after)


def _served(
    geometry: Geometry, rule: LayerRule, settings: SearchSettings, table: LatencyTable
) -> list[LayerChoice]:
    if rule.dense:
        return []
    wanted = rule.blocks or settings.blocks
    measured = table.blocks(geometry)
    blocks = measured if wanted is None else [_require(b, geometry, table) for b in wanted]
    return [
        LayerChoice(block, sparsity)
        for block in blocks
        for sparsity in settings.sparsities or _measured(geometry, block, table)
    ]


def _measured(geometry: Geometry, block: BlockShape, table: LatencyTable) -> list[float]:
    low, high = table.sparsity_range(geometry, block)
    return [sparsity for sparsity in SPARSITIES if low <= sparsity <= high]


def _require(block: BlockShape, geometry: Geometry, table: LatencyTable) -> BlockShape:
    table.sparsity_range(geometry, block)  # refuses what was not measured
    return block


def _is_candidate(
    geometry: Geometry, choice: LayerChoice, rule: LayerRule, table: LatencyTable
) -> bool:
    block = choice.block
    if block is None or not rule.allows(choice):
        return False
    if block.size > max(_SMALL_BLOCK, AREA_FRACTION * geometry.matrix.size):
        return False
    priced, dense = table.latency_s(geometry, choice), table.latency_s(geometry, DENSE)
    return priced.latency_s - priced.error_s < dense.latency_s
