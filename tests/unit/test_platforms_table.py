"""The latency table: interpolation, error bars, break-even, and never a guess."""

import math

import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, parse_geometry
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.platforms import (
    InPlace,
    LatencyTable,
    Measurement,
    NetworkMeasurement,
    PeerMeasurement,
    Platform,
    Profile,
)

CONV = parse_geometry("conv 64 64 3 3 32 32 1 1")
OTHER = parse_geometry("conv 32 32 3 3 32 32 1 1")
BLOCK = BlockShape(8, 1)


def row(choice, latency_s, spread=0.0, repeats=4):
    return Measurement(CONV, choice, latency_s, spread, (latency_s,) * repeats)


def table(curve, *, dense=10.0, peer=None, repeat_error=0.0, spread=0.0):
    rows = [row(DENSE, dense, spread)]
    rows += [row(LayerChoice(BLOCK, s), latency, spread) for s, latency in curve.items()]
    peers = () if peer is None else (PeerMeasurement(CONV, peer, 0.0, (peer,)),)
    return LatencyTable(
        Profile(
            "box", Platform("native"), {}, {}, "2025-01-31", {}, repeat_error, tuple(rows), peers
        )
    )


def test_measured_points_are_returned_as_they_are():
    lookup = table({0.5: 6.0, 0.7: 4.0, 0.9: 1.0})
    for sparsity, latency in ((0.5, 6.0), (0.7, 4.0), (0.9, 1.0)):
        assert lookup.latency_s(CONV, LayerChoice(BLOCK, sparsity)).latency_s == latency
    assert lookup.latency_s(CONV, DENSE).latency_s == 10.0


def test_between_points_latency_is_linear_in_density():
    lookup = table({0.5: 6.0, 0.9: 2.0})
    assert lookup.latency_s(CONV, LayerChoice(BLOCK, 0.6)).latency_s == pytest.approx(5.0)


def test_noise_that_makes_a_sparser_layer_slower_is_pooled():
    lookup = table({0.5: 6.0, 0.7: 3.0, 0.8: 5.0, 0.9: 1.0})
    # both points become their mean, weighted by 1 / error², the errors proportional to latency
    mean = (3.0 / 3.0**2 + 5.0 / 5.0**2) / (1 / 3.0**2 + 1 / 5.0**2)
    for sparsity in (0.7, 0.8):
        assert lookup.latency_s(CONV, LayerChoice(BLOCK, sparsity)).latency_s == pytest.approx(mean)
    pooled, calm = (lookup.latency_s(CONV, LayerChoice(BLOCK, s)) for s in (0.7, 0.5))
    assert pooled.error_s > 0.5  # the point was moved by this much
    assert calm.error_s < 0.01


def test_the_error_is_the_medians_standard_error_and_the_repeat_error():
    lookup = table({0.5: 2.0, 0.9: 1.0}, spread=0.1, repeat_error=0.03)
    standard = 1.2533 / 1.349 * 0.1 / math.sqrt(4)
    expected = 2.0 * math.hypot(standard, 0.03)
    error = lookup.latency_s(CONV, LayerChoice(BLOCK, 0.5)).error_s
    assert error == pytest.approx(expected)


def test_what_was_measured_can_be_asked():
    lookup = table({0.5: 6.0, 0.9: 1.0}, peer=8.0)
    assert lookup.geometries == (CONV,)
    assert lookup.blocks(CONV) == (BLOCK,)
    assert lookup.blocks(OTHER) == ()
    assert lookup.sparsity_range(CONV, BLOCK) == (0.5, 0.9)
    assert (lookup.peer_latency_s(CONV), lookup.peer_latency_s(OTHER)) == (8.0, None)


@pytest.mark.parametrize(
    ("geometry", "choice", "message", "options"),
    [
        (
            CONV,
            LayerChoice(BlockShape(4, 4), 0.5),
            "profile 'box' has no measurement of 4x4 blocks on conv 64 64 3 3 32 32 1 1",
            " --block 4x4",
        ),
        (
            OTHER,
            LayerChoice(BLOCK, 0.5),
            "profile 'box' has no measurement of 8x1 blocks on conv 32 32 3 3 32 32 1 1",
            "",
        ),
        (
            OTHER,
            DENSE,
            "profile 'box' has no measurement of conv 32 32 3 3 32 32 1 1 with dense weights",
            "",
        ),
    ],
    ids=["block", "geometry", "dense"],
)
def test_what_was_not_measured_is_refused_with_the_command_to_add_it(
    geometry, choice, message, options
):
    with pytest.raises(UnsupportedError) as error:
        table({0.5: 6.0}).latency_s(geometry, choice)
    assert str(error.value) == message
    assert error.value.hint == f"add it with: pruneaug profile --task TASK --platform box{options}"


@pytest.mark.parametrize("sparsity", [0.49, 0.95])
def test_never_extrapolates(sparsity):
    with pytest.raises(UnsupportedError) as error:
        table({0.5: 6.0, 0.9: 1.0}).latency_s(CONV, LayerChoice(BLOCK, sparsity))
    assert str(error.value) == (
        "profile 'box' has 8x1 blocks on conv 64 64 3 3 32 32 1 1 between sparsity 0.5 and 0.9, "
        f"not at {sparsity:g}"
    )


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (None, 0.5),  # 6 beats our dense 10 at once
        (5.0, 0.6),  # a quarter of the way from 6 to 2
        (1.5, None),
    ],
)
def test_break_even_is_against_the_faster_dense(peer, expected):
    lookup = table({0.5: 6.0, 0.9: 2.0}, peer=peer)
    assert lookup.break_even(CONV, BLOCK) == (
        expected if expected is None else pytest.approx(expected)
    )


def in_network(lookup, place, choice, uses=1):
    network = NetworkMeasurement("d", 9.0, 1.0, 0.0, {"a": place}, (5.0,))
    return lookup.in_network(network, "a", CONV, choice, uses=uses)


def test_in_its_place_a_layer_takes_what_it_took_there():
    lookup = table({0.5: 6.0, 0.9: 2.0})
    place = InPlace(BLOCK, (0.0, 0.5, 0.9), (12.0, 9.0, 4.0))
    for sparsity, seconds in ((0.5, 9.0), (0.7, 6.5), (0.9, 4.0)):
        choice = LayerChoice(BLOCK, sparsity)
        assert in_network(lookup, place, choice, uses=3) == pytest.approx(seconds)
    assert in_network(lookup, place, DENSE) == pytest.approx(12.0)


def test_another_block_costs_there_as_much_more_as_it_does_alone():
    rows = [row(DENSE, 10.0)]
    for block, factor in ((BLOCK, 1.0), (BlockShape(4, 1), 1.5)):
        rows += [
            row(LayerChoice(block, s), factor * latency) for s, latency in ((0.5, 6.0), (0.9, 2.0))
        ]
    lookup = LatencyTable(
        Profile("box", Platform("native"), {}, {}, "2025-01-31", {}, 0.0, tuple(rows))
    )
    place = InPlace(BLOCK, (0.5, 0.9), (9.0, 4.0))
    assert in_network(lookup, place, LayerChoice(BlockShape(4, 1), 0.7)) == pytest.approx(9.75)


def test_beyond_the_sparsities_measured_in_place_the_price_alone_says_how_it_goes_on():
    lookup = table({0.5: 6.0, 0.9: 2.0})
    place = InPlace(BLOCK, (0.5, 0.7), (9.0, 6.0))
    expected = 6.0 * 2.0 / 4.0  # at 0.7 alone: 4
    assert in_network(lookup, place, LayerChoice(BLOCK, 0.9)) == pytest.approx(expected)


def test_a_layer_outside_of_the_regions_costs_what_it_does_alone_for_each_use():
    network = NetworkMeasurement("d", 9.0, 1.0, 0.0, {}, (5.0,))
    lookup = table({0.5: 6.0, 0.9: 2.0})
    assert lookup.in_network(network, "b", CONV, DENSE, uses=2) == 20.0
