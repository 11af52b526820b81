"""Candidates of layers, and what every cut leaves of the space."""

from math import log10

import pytest

from pruneaug_cli.app.candidates import find_candidates
from pruneaug_cli.app.layer_rules import LayerRule, LayerRules
from pruneaug_cli.app.recipe import SearchSettings
from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, LinearGeometry
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.layers import PrunableLayer
from pruneaug_cli.platforms import Estimate

SHAPE, OTHER = LinearGeometry(16, 64), LinearGeometry(8, 32)
SPARSITIES = (0.5, 0.75, 0.9)


class Table:
    """Prices in closed form: 1 when dense, and 5% of error.

    8x1 costs 1.2 times its density, 16x64 is a block too large, 4x4 is slower than dense.
    """

    factors = {BlockShape(8, 1): 1.2, BlockShape(16, 32): 0.5, BlockShape(4, 4): 20.0}  # noqa: RUF012

    def blocks(self, _):
        return tuple(sorted(self.factors))

    def sparsity_range(self, _, block):
        assert block in self.factors
        return 0.5, 0.9

    def latency_s(self, _, choice):
        if choice.is_dense:
            return Estimate(1.0, 0.0)
        return Estimate(self.factors[choice.block] * (1.0 - choice.sparsity), 0.05)


def find(layers, rules=None, sparsities=SPARSITIES, **settings):
    settings = SearchSettings(sparsities=sparsities, **settings)
    return find_candidates(layers, rules or LayerRules(), settings, Table())


def layers(*shapes):
    return [PrunableLayer(f"l{index}", shape, 1) for index, shape in enumerate(shapes)]


def test_each_cut_leaves_what_it_says():
    """16 x 64: 5 x 7 blocks divide it, the whole matrix is none; 22 of the others hold 32 or less.

    The profile has three of them, one too large; 4x4 is slower than dense but at 0.9.
    """
    found = find(layers(SHAPE))
    divisors = [(r, c) for r in (1, 2, 4, 8, 16) for c in (1, 2, 4, 8, 16, 32, 64)]
    small = [(r, c) for r, c in divisors if r * c <= 32]
    assert [cut.options for cut in found.cuts] == [
        1 + 3 * (len(divisors) - 1), 1 + 3 * len(small), 1 + 3 * 2, 1 + 3 * 2, 1 + 3,
    ]  # fmt: skip
    assert found.choices["l0"] == (
        DENSE, *(LayerChoice(BlockShape(8, 1), sparsity) for sparsity in SPARSITIES),
    )  # fmt: skip


def test_every_cut_leaves_no_more_than_the_one_before():
    found = find(layers(SHAPE, OTHER, SHAPE))
    for before, after in zip(found.cuts, found.cuts[1:], strict=False):
        assert after.options <= before.options
        assert after.distinct <= before.distinct
        assert after.log10_plans <= before.log10_plans
    assert (found.log10_before, found.log10_after) == (
        found.cuts[0].log10_plans,
        found.cuts[-1].log10_plans,
    )


def test_equal_shapes_share_a_set_but_choose_for_themselves():
    one, three = find(layers(SHAPE)), find(layers(SHAPE, SHAPE, SHAPE))
    last, alone = three.cuts[-1], one.cuts[-1]
    assert three.choices["l0"] is three.choices["l2"]
    assert (last.options, last.distinct) == (3 * alone.options, alone.options)
    assert last.log10_plans == pytest.approx(3 * log10(alone.options))


def test_rules_of_one_layer_do_not_touch_its_twin():
    rules = LayerRules(names={"l1": LayerRule(max_sparsity=0.5), "l2": LayerRule(dense=True)})
    found = find(layers(SHAPE, SHAPE, SHAPE), rules)
    assert [len(found.choices[name]) for name in ("l0", "l1", "l2")] == [4, 2, 1]
    asked, ruled = found.cuts[2], found.cuts[3]
    assert (asked.options, ruled.options) == (21, 7 + 3 + 1)
    assert ruled.distinct == 7 + 3 + 1


def test_the_profiles_error_is_in_favour_of_a_candidate(monkeypatch):
    """5% slower than dense, within the error of 5%: it stays, as timing cannot tell."""
    monkeypatch.setitem(Table.factors, BlockShape(8, 1), 2.09)
    assert LayerChoice(BlockShape(8, 1), 0.5) in find(layers(SHAPE)).choices["l0"]
    monkeypatch.setitem(Table.factors, BlockShape(8, 1), 2.11)
    assert LayerChoice(BlockShape(8, 1), 0.5) not in find(layers(SHAPE)).choices["l0"]


def test_the_bounds_of_a_rule_are_candidates_where_they_are_measured():
    rules = LayerRules(
        names={
            "l0": LayerRule(min_sparsity=0.65, max_sparsity=0.65),
            "l1": LayerRule(min_sparsity=0.1, max_sparsity=0.78),
        }
    )
    found = find(layers(SHAPE, SHAPE), rules, sparsities=None)
    sparsities = [
        [c.sparsity for c in found.choices[name] if not c.is_dense] for name in ("l0", "l1")
    ]
    assert sparsities == [[0.65], [0.5, 0.6, 0.7, 0.75, 0.78]]


def test_where_the_recipe_lists_sparsities_bounds_add_none():
    found = find(layers(SHAPE), LayerRules(defaults=LayerRule(max_sparsity=0.8)))
    assert [choice.sparsity for choice in found.choices["l0"][1:]] == [0.5, 0.75]


@pytest.mark.parametrize(("low", "high"), [(0.95, None), (0.65, 0.7)])
def test_a_rule_that_leaves_nothing_measured_is_refused(low, high):
    rules = LayerRules(names={"l1": LayerRule(min_sparsity=low, max_sparsity=high)})
    with pytest.raises(UnsupportedError) as refusal:
        find(layers(SHAPE, SHAPE), rules)
    assert str(refusal.value) == (
        f"layer 'l1': the recipe bounds its sparsity to {low:g} to {high or 1.0:g}; "
        "measured and asked for: 0.5, 0.75, 0.9"
    )
    assert refusal.value.hint == "change the bounds under layers:, or say 'dense: true'"
