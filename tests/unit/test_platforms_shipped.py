"""The profiles we ship are data, and data is tested: each loads, is whole, was measured well."""

from pathlib import Path

import numpy as np
import pytest

from pruneaug_cli.core import DENSE
from pruneaug_cli.platforms import LatencyTable, read_profile

PROFILES = sorted((Path(__file__).parents[2] / "platforms").glob("*.json"))
CLOCK_LIMIT_S = 2e-6  # layers faster than this are lost among the session's microseconds


@pytest.fixture(scope="module", params=PROFILES, ids=lambda path: path.stem)
def shipped(request):
    return request.param, read_profile(request.param)


def test_a_shipped_profile_carries_its_file_name(shipped):
    path, profile = shipped
    assert profile.name == path.stem


def test_a_shipped_profile_says_where_and_how_it_was_measured(shipped):
    _, profile = shipped
    assert profile.host.keys() >= {"cpu", "isa", "cores", "os", "onnxruntime"}
    assert profile.kernels.keys() >= {"library", "version", "compiler", "isa", "digest"}
    assert profile.settings.keys() >= {"repeats", "sample_s", "seed", "clock"}
    assert not any("/" in fact for fact in profile.host.values())


def test_every_geometry_has_a_dense_row_a_peer_and_blocks_with_both_ends(shipped):
    _, profile = shipped
    table = LatencyTable(profile)
    geometries = {row.geometry for row in profile.measurements}
    assert geometries == set(table.geometries) == {row.geometry for row in profile.peers}
    for geometry in geometries:
        assert profile.find(geometry, DENSE) is not None
        assert table.blocks(geometry)
        for block in table.blocks(geometry):
            low, high = table.sparsity_range(geometry, block)
            assert low <= 0.5
            assert high >= 0.95


def test_measurements_are_many_and_calm(shipped):
    _, profile = shipped
    assert profile.repeat_error < 0.10
    assert all(row.repeats >= 5 for row in profile.measurements)
    spreads = [row.spread for row in profile.measurements if row.latency_s > CLOCK_LIMIT_S]
    assert np.median(spreads) < 0.10
