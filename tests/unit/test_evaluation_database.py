"""The layer database: what it holds, what a second run computes, what it refuses."""

import json
import multiprocessing
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from pruneaug_cli.core import DENSE, BlockGrid, BlockShape, LayerChoice, MatrixShape
from pruneaug_cli.criteria import LayerEvidence, PruningMethod, ReconstructionSettings, prune_path
from pruneaug_cli.errors import PlanError, RunError, UnsupportedError
from pruneaug_cli.evaluation import build, build_database, open_database

CHOICES = [
    DENSE,
    LayerChoice(BlockShape(4, 1), 0.75),
    LayerChoice(BlockShape(4, 1), 0.5),
    LayerChoice(BlockShape(3, 2), 0.5),
]


@pytest.fixture
def layers():
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((10, 9)).astype(np.float32) for name in ("a", "b.c")}
    evidence = {}
    for name in weights:
        x = rng.standard_normal((40, 9)).astype(np.float32)
        evidence[name] = LayerEvidence(x.T @ x / np.float32(40), 40)
    return weights, evidence


@pytest.fixture
def counted(monkeypatch):
    """Grids that were really computed."""
    computed = []

    def counting(weight, evidence, grid, *rest):
        computed.append(grid)
        return prune_path(weight, evidence, grid, *rest)

    monkeypatch.setattr(build, "prune_path", counting)
    return computed


def make(layers, folder, choices=CHOICES, **options):
    weights, evidence = layers
    return build_database(weights, evidence, dict.fromkeys(weights, choices), folder, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_entries_are_the_reconstructions(layers, tmp_path):
    database = make(layers, tmp_path)
    grid = BlockGrid(MatrixShape(10, 9), BlockShape(4, 1))
    for name in layers[0]:
        expected = prune_path(layers[0][name], layers[1][name], grid, [0.5, 0.75])
        for one, sparsity in zip(expected, (0.5, 0.75), strict=True):
            entry = database.entry(name, LayerChoice(BlockShape(4, 1), sparsity))
            np.testing.assert_array_equal(entry.weight, one.weight)
            np.testing.assert_array_equal(entry.mask.kept, one.mask.kept)
            assert entry.harm == one.harm == database.harm(name, LayerChoice(grid.block, sparsity))


def test_dense_has_no_harm_and_the_choices_are_listed(layers, tmp_path):
    database = make(layers, tmp_path)
    assert database.harm("a", DENSE) == 0.0
    assert database.layers == ("a", "b.c")
    assert set(database.choices("a")) == set(CHOICES) - {DENSE}


def test_a_second_run_computes_nothing(layers, tmp_path, counted):
    make(layers, tmp_path)
    before = contents(tmp_path)
    assert len(counted) == 4
    make(layers, tmp_path)
    assert len(counted) == 4
    assert contents(tmp_path) == before


def test_a_killed_build_goes_on_where_it_was(layers, tmp_path, counted):
    def kill(step):
        if step.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(layers, tmp_path, progress=kill)
    assert len(counted) == 2
    make(layers, tmp_path)
    assert len(counted) == 4


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_piece_is_computed_again(layers, tmp_path, counted, damage):
    make(layers, tmp_path)
    before = contents(tmp_path)
    path = sorted(tmp_path.glob("*.safetensors"))[0]
    path.write_bytes(damaged(path.read_bytes(), damage))
    make(layers, tmp_path)
    assert len(counted) == 5
    assert contents(tmp_path) == before


def damaged(data, how):
    if how == "flip":
        return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
    return data[: len(data) // 2] if how == "truncate" else b""


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_piece_is_refused_by_a_reader(layers, tmp_path, damage):
    make(layers, tmp_path)
    database = open_database(tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(damaged(path.read_bytes(), damage))
    last = LayerChoice(BlockShape(4, 1), 0.75)  # the last bytes of the file are its mask
    with pytest.raises(RunError, match=r"safetensors: damaged path file: ") as refusal:
        database.entry("a", last)
    assert "run the same command again" in (refusal.value.hint or "")


def test_only_a_changed_layer_is_computed_again(layers, tmp_path, counted):
    make(layers, tmp_path)
    layers[0]["a"] = layers[0]["a"] + np.float32(1)
    make(layers, tmp_path)
    assert len(counted) == 6


def test_other_settings_are_other_pieces(layers, tmp_path, counted):
    first = make(layers, tmp_path)
    second = make(
        layers, tmp_path, method=PruningMethod(reconstruction=ReconstructionSettings(ridge=0.1))
    )
    assert len(counted) == 8
    assert first.digest != second.digest


def test_the_index_opens_as_the_same_database(layers, tmp_path):
    database = make(layers, tmp_path)
    found = open_database(tmp_path)
    assert found.digest == database.digest
    assert found.choices("b.c") == database.choices("b.c")
    choice = CHOICES[1]
    assert found.harm("a", choice) == database.harm("a", choice)
    np.testing.assert_array_equal(
        found.entry("a", choice).weight, database.entry("a", choice).weight
    )


@pytest.mark.slow
def test_worker_processes_write_the_same_bytes(layers, tmp_path):
    make(layers, tmp_path / "one")
    make(layers, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
def test_worker_processes_that_are_killed_are_replaced(layers, tmp_path):
    make(layers, tmp_path / "one")
    kills = []

    def kill(step):
        for process in multiprocessing.active_children() if step.done == 1 and not kills else []:
            process.kill()
            kills.append(process)

    make(layers, tmp_path / "two", workers=2, progress=kill)
    assert kills
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_worker_after_worker_dying_is_refused(layers, tmp_path, monkeypatch):
    def broken(*_):
        raise BrokenProcessPool
        yield

    monkeypatch.setattr(build, "_in_processes", broken)
    with pytest.raises(UnsupportedError, match="10 times in a row a worker died before") as refusal:
        make(layers, tmp_path, workers=2)
    assert "--workers" in refusal.value.hint


def test_an_option_it_does_not_hold_is_refused(layers, tmp_path):
    database = make(layers, tmp_path)
    with pytest.raises(PlanError, match=r"layer 'a' has no option '8x1 @ 0.5'") as refusal:
        database.entry("a", LayerChoice(BlockShape(8, 1), 0.5))
    assert (refusal.value.hint or "").startswith("blocks of this layer: 3x2, 4x1")
    with pytest.raises(PlanError, match="layer 'z' is not in the database"):
        database.harm("z", DENSE)
    with pytest.raises(PlanError, match="layer 'a' has no option 'dense'"):
        database.entry("a", DENSE)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, r"index\.json: no such database index file"),
        ({"schema_version": 9}, r"database index schema 9 is not the supported 1"),
        ({"schema_version": 1}, r"malformed database index: KeyError\('layers'\)"),
        (
            {"schema_version": 1, "layers": {"a": {"matrix": "0x3", "paths": {}}}},
            "bad matrix '0x3'",
        ),
    ],
    ids=["missing", "version", "empty", "matrix"],
)
def test_a_bad_index_is_refused(tmp_path, index, message):
    if index is not None:
        (tmp_path / "index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(RunError, match=message):
        open_database(tmp_path)
