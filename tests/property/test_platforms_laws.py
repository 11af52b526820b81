"""Laws of the latency table and of the profile file, for measurements nobody chose."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, parse_geometry
from pruneaug_cli.platforms import (
    LatencyTable,
    Measurement,
    Platform,
    Profile,
    read_profile,
    write_profile,
)
from pruneaug_cli.platforms.isotonic import isotonic_falling

GEOMETRY = parse_geometry("linear 64 64 8")
BLOCK = BlockShape(8, 1)

times = st.floats(1e-7, 1e-1)
sequences = st.lists(st.tuples(times, st.floats(0.1, 10.0)), min_size=1, max_size=7)


@st.composite
def profiles(draw):
    sparsities = draw(st.lists(st.integers(1, 99), min_size=1, max_size=6, unique=True))
    choices = [DENSE, *(LayerChoice(BLOCK, s / 100) for s in sparsities)]
    rows = []
    for choice in choices:
        samples = tuple(draw(st.lists(times, min_size=1, max_size=5)))
        rows.append(Measurement(GEOMETRY, choice, draw(times), draw(st.floats(0, 1)), samples))
    error = draw(st.floats(0, 0.5))
    return Profile("p", Platform("native"), {}, {}, "2025-01-31", {}, error, tuple(rows))


@given(profiles(), st.floats(0, 1), st.floats(0, 1))
def test_a_sparser_layer_is_never_predicted_slower(profile, one, other):
    table = LatencyTable(profile)
    low, high = table.sparsity_range(GEOMETRY, BLOCK)
    asked = sorted(min(max(low + share * (high - low), low), high) for share in (one, other))
    first, second = (table.latency_s(GEOMETRY, LayerChoice(BLOCK, s)) for s in asked)
    assert second.latency_s <= first.latency_s * (1 + 1e-12)
    assert min(first.error_s, second.error_s) > 0.0


@given(profiles())
def test_predictions_stay_within_what_was_measured(profile):
    measured = [row.latency_s for row in profile.measurements if not row.choice.is_dense]
    table = LatencyTable(profile)
    for sparsity in np.linspace(*table.sparsity_range(GEOMETRY, BLOCK), 7):
        latency = table.latency_s(GEOMETRY, LayerChoice(BLOCK, float(sparsity))).latency_s
        assert min(measured) * (1 - 1e-9) <= latency <= max(measured) * (1 + 1e-9)


@given(sequences)
def test_the_isotonic_fit_falls_keeps_the_mean_and_is_idempotent(pairs):
    values, weights = map(list, zip(*pairs, strict=True))
    fitted = isotonic_falling(values, weights)
    assert all(left >= right for left, right in pairwise(fitted))
    assert np.dot(fitted, weights) == pytest.approx(np.dot(values, weights))
    assert isotonic_falling(fitted, weights) == pytest.approx(fitted)


@given(sequences)
def test_a_falling_sequence_is_left_alone(pairs):
    values, weights = map(list, zip(*pairs, strict=True))
    falling = sorted(values, reverse=True)
    assert isotonic_falling(falling, weights) == falling


@settings(max_examples=25)
@given(profiles())
def test_writing_what_was_read_changes_no_byte(profile):
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "a.json"), Path(folder, "b.json")
        write_profile(profile, first)
        write_profile(read_profile(first), second)
        assert first.read_bytes() == second.read_bytes()
