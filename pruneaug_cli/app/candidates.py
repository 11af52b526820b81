"""Which choices each layer has: what the platform serves, the recipe allows, and the cuts leave.

The cuts, after PruneAug, and what is left after each (``results.Cut``):

1. every block whose sides divide the layer's matrix, and what the profile has besides, at every
   sparsity of the grid: what one could ask for;
2. the area cap: a block holds at most ``AREA_FRACTION`` of its layer, small blocks excepted;
3. what the recipe asks for and the profile has measured;
4. the recipe's layer rules;
5. measured latency: a choice that is slower than staying dense, by more than the profile's error,
   goes.

Layers of equal geometry share one set, made once; each of them still chooses for itself, so plans
are counted over layers and never over sets. Which options others dominate shows only when their
harm is known: the search drops those (``search.cut``), and the result of a run counts them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import log10

from pruneaug_cli.app.layer_rules import LayerRule, LayerRules
from pruneaug_cli.app.recipe import SearchSettings
from pruneaug_cli.app.results import Cut
from pruneaug_cli.core import DENSE, BlockShape, Geometry, LayerChoice, MatrixShape
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.layers import PrunableLayer
from pruneaug_cli.platforms import LatencyTable

AREA_FRACTION = 0.01
"""Largest part of a layer that one block may hold; blocks of up to 32 weights always may."""

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Searched when the recipe names none, as far as the profile has measured.

Where accuracy is short, low ones are wanted: in the plans of ResNet-20 and ResNet-56 that lost at
most a point before training (363 and 232, of CIFAR-10 searches), 62% and 51% of the pruned layers
had less than half of their blocks removed.
"""

_SMALL_BLOCK = 32
_CUTS = (
    "blocks that divide the layer",
    "area cap",
    "measured, and asked for",
    "layer rules",
    "faster than dense",
)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Choices per layer, dense first, and how large the space was after each cut.

    Attributes:
        choices: per layer, in the model's order.
        cuts: in the order they are made; the first is of no cut yet.
    """

    choices: Mapping[str, tuple[LayerChoice, ...]]
    cuts: tuple[Cut, ...]

    @property
    def log10_before(self) -> float:
        """Plans before the cuts, as a power of ten."""
        return self.cuts[0].log10_plans

    @property
    def log10_after(self) -> float:
        """Plans after them."""
        return self.cuts[-1].log10_plans


@dataclass(frozen=True, slots=True)
class _Set:
    """Candidates of one geometry under one rule, and how many options each cut left."""

    choices: tuple[LayerChoice, ...]
    left: tuple[int, ...]


def find_candidates(
    layers: Sequence[PrunableLayer],
    rules: LayerRules,
    settings: SearchSettings,
    table: LatencyTable,
) -> Candidates:
    """List the choices of every layer.

    Raises:
        UnsupportedError: the recipe names a block or sparsity that the profile has not measured,
            or bounds a layer's sparsity to what lies outside of it.
    """
    known: dict[tuple[Geometry, str], _Set] = {}
    sets = {}
    for layer in layers:
        rule = rules.rules_for(layer.name, layer.geometry.op)
        key = (layer.geometry, repr(rule))
        if key not in known:
            known[key] = _candidates(layer, rule, settings, table)
        sets[layer.name] = (layer.geometry, known[key])
    cuts = (_cut(name, index, sets.values()) for index, name in enumerate(_CUTS))
    return Candidates({name: found.choices for name, (_, found) in sets.items()}, tuple(cuts))


def _cut(name: str, index: int, sets: Iterable[tuple[Geometry, _Set]]) -> Cut:
    counts = [(found.left[index], geometry, found.choices) for geometry, found in sets]
    return Cut(
        name,
        options=sum(count for count, *_ in counts),
        distinct=sum(count for count, *_ in set(counts)),
        log10_plans=sum(log10(count) for count, *_ in counts),
    )


def _candidates(
    layer: PrunableLayer, rule: LayerRule, settings: SearchSettings, table: LatencyTable
) -> _Set:
    geometry, matrix = layer.geometry, layer.geometry.matrix
    served = _served(geometry, settings, table, rule)
    blocks = {choice.block for choice in served if choice.block is not None}
    others = _divisors(matrix) - blocks
    grid = len(settings.sparsities or SPARSITIES)
    capped = [choice for choice in served if _is_small(choice, matrix)]
    allowed = [choice for choice in capped if rule.allows(choice)]
    if capped and not allowed and not rule.dense:
        raise _out_of_reach(layer, rule, capped)
    faster = [choice for choice in allowed if _is_faster(geometry, choice, table)]
    small = sum(_fits(block, matrix) for block in others)
    left = (
        len(others) * grid + len(served),
        small * grid + len(capped),
        len(capped),
        len(allowed),
        len(faster),
    )
    return _Set((DENSE, *faster), tuple(1 + count for count in left))


def _served(
    geometry: Geometry, settings: SearchSettings, table: LatencyTable, rule: LayerRule
) -> list[LayerChoice]:
    if rule.dense and settings.blocks is not None:
        return []  # what the recipe names need not be measured on a layer that stays dense
    wanted = rule.blocks or settings.blocks
    measured = table.blocks(geometry)
    blocks = measured if wanted is None else [_require(b, geometry, table) for b in wanted]
    return [
        LayerChoice(block, sparsity)
        for block in blocks
        for sparsity in _sparsities(geometry, block, settings, table, rule)
    ]


def _sparsities(
    geometry: Geometry,
    block: BlockShape,
    settings: SearchSettings,
    table: LatencyTable,
    rule: LayerRule,
) -> list[float]:
    """Those the recipe names; or else the grid with the rule's own bounds, as far as measured."""
    if settings.sparsities:
        return list(settings.sparsities)
    low, high = table.sparsity_range(geometry, block)
    bounds = [bound for bound in (rule.min_sparsity, rule.max_sparsity) if bound]
    return sorted({sparsity for sparsity in (*SPARSITIES, *bounds) if low <= sparsity <= high})


def _require(block: BlockShape, geometry: Geometry, table: LatencyTable) -> BlockShape:
    table.sparsity_range(geometry, block)  # refuses what was not measured
    return block


def _out_of_reach(
    layer: PrunableLayer, rule: LayerRule, served: Sequence[LayerChoice]
) -> UnsupportedError:
    low, high = rule.min_sparsity or 0.0, 1.0 if rule.max_sparsity is None else rule.max_sparsity
    known = ", ".join(f"{sparsity:g}" for sparsity in sorted({c.sparsity for c in served}))
    return UnsupportedError(
        f"layer {layer.name!r}: the recipe bounds its sparsity to {low:g} to {high:g}; measured "
        f"and asked for: {known}",
        hint="change the bounds under layers:, or say 'dense: true'",
    )


@cache
def _divisors(matrix: MatrixShape) -> frozenset[BlockShape]:
    """Every block whose sides divide the matrix's, the matrix itself excepted."""
    rows, cols = (
        [size for size in range(1, whole + 1) if whole % size == 0]
        for whole in (matrix.rows, matrix.cols)
    )
    return frozenset(BlockShape(r, c) for r in rows for c in cols) - {
        BlockShape(rows[-1], cols[-1])
    }


def _is_small(choice: LayerChoice, matrix: MatrixShape) -> bool:
    return choice.block is not None and _fits(choice.block, matrix)


def _fits(block: BlockShape, matrix: MatrixShape) -> bool:
    return block.size <= max(_SMALL_BLOCK, AREA_FRACTION * matrix.size)


def _is_faster(geometry: Geometry, choice: LayerChoice, table: LatencyTable) -> bool:
    priced, dense = table.latency_s(geometry, choice), table.latency_s(geometry, DENSE)
    return priced.latency_s - priced.error_s < dense.latency_s
