"""The layer database: what it holds, what a second run computes, what it refuses."""

import gc
import json
import multiprocessing
import re
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

from pruneaug_cli.children import WorkerDiedError
from pruneaug_cli.core import DENSE, BlockGrid, BlockShape, LayerChoice, MatrixShape
from pruneaug_cli.criteria import LayerEvidence, PruningMethod, ReconstructionSettings, prune_path
from pruneaug_cli.errors import PlanError, RunError, UnsupportedError
from pruneaug_cli.evaluation import build, build_database, open_database
from pruneaug_cli.evaluation import path as one_path

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

    monkeypatch.setattr(one_path, "prune_path", counting)
    return computed


def make(layers, folder, choices=CHOICES, **options):
    weights, evidence = layers
    return build_database(weights, evidence, dict.fromkeys(weights, choices), folder, **options)


def contents(folder):
    """Of finished files: what a killed worker was writing stays beside them, hidden and unread."""
    files = (path for path in folder.iterdir() if not path.name.startswith("."))
    return {path.name: path.read_bytes() for path in files}


def test_entries_are_the_reconstructions(layers, tmp_path):
    database = make(layers, tmp_path)
    grid = BlockGrid(MatrixShape(10, 9), BlockShape(4, 1))
    for name in layers[0]:
        expected = prune_path(layers[0][name], layers[1][name], grid, [0.5, 0.75])
        for one, sparsity in zip(expected, (0.5, 0.75), strict=True):
            entry = database.entry(name, LayerChoice(BlockShape(4, 1), sparsity))
            np.testing.assert_array_equal(entry.weight, one.weight)
            np.testing.assert_array_equal(entry.mask.kept, one.mask.kept)
            assert entry.harm == database.harm(name, LayerChoice(grid.block, sparsity))
            assert entry.harm == pytest.approx(one.harm, rel=1e-6)


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


class Dying:
    """Children that die with every job."""

    def __init__(self, _):
        self._jobs = []

    def submit(self, job):
        self._jobs.append(job)

    def wait(self):
        return [(self._jobs.pop(), WorkerDiedError("signal SIGKILL"))]

    def close(self):
        self._jobs.clear()


def test_worker_after_worker_dying_is_refused(layers, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "Children", Dying)
    expected = (
        "10 times in a row a worker died before it had reconstructed a layer (signal SIGKILL)"
    )
    with pytest.raises(UnsupportedError, match=re.escape(expected)) as refusal:
        make(layers, tmp_path, workers=2)
    assert "fewer workers (search.workers)" in refusal.value.hint


@dataclass(frozen=True)
class ReadableHere:
    """Evidence whose file is gone when a worker wants it."""

    known: LayerEvidence

    def load(self):
        if multiprocessing.parent_process() is not None:
            raise RunError("a.npz: no such evidence", hint="run the same command again")
        return self.known


@pytest.mark.slow
def test_what_a_worker_raises_is_raised_here(layers, tmp_path):
    weights, evidence = layers
    damaged = {**evidence, "b.c": ReadableHere(evidence["b.c"])}
    with pytest.raises(RunError, match=r"a\.npz: no such evidence") as refusal:
        make((weights, damaged), tmp_path, workers=2)
    assert refusal.value.hint == "run the same command again"
    assert multiprocessing.active_children() == []


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
        ({"schema_version": 9}, r"database index schema 9 is not the supported 2"),
        ({"schema_version": 2}, r"malformed database index: KeyError\('layers'\)"),
        (
            {"schema_version": 2, "layers": {"a": {"matrix": "0x3", "paths": {}}}},
            "bad matrix '0x3'",
        ),
        ({"schema_version": 2, "layers": {}, "harm": "kl"}, "bad measure of harm 'kl'"),
    ],
    ids=["missing", "version", "empty", "matrix", "measure"],
)
def test_a_bad_index_is_refused(tmp_path, index, message):
    if index is not None:
        (tmp_path / "index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(RunError, match=message):
        open_database(tmp_path)


@pytest.fixture
def curved(layers):
    """The layers with curvature at their outputs."""
    weights, evidence = layers
    rng = np.random.default_rng(1)
    found = {}
    for name, known in evidence.items():
        g = rng.standard_normal((30, 10)).astype(np.float32)
        found[name] = LayerEvidence(
            known.second_moment, known.samples, output_curvature=g.T @ g / np.float32(30)
        )
    return weights, found


def test_another_harm_is_computed_without_reconstructing_again(layers, curved, tmp_path, counted):
    choice = CHOICES[1]
    plain = make(layers, tmp_path)
    assert len(counted) == 4
    with pytest.raises(RunError, match="holds no harm by 'loss' of layer 'a'") as refusal:
        plain.harm("a", choice, "loss")
    assert refusal.value.hint == "search with: --set search.harm=loss"
    both = make(curved, tmp_path, harm="loss")
    assert len(counted) == 4
    weight, evidence = curved[0]["a"], curved[1]["a"]
    change = both.entry("a", choice).weight - weight
    expected = np.trace(evidence.output_curvature @ change @ evidence.second_moment @ change.T)
    assert both.harm("a", choice) == pytest.approx(expected, rel=1e-4)
    assert both.harm("a", choice, "output") == plain.harm("a", choice)
    found = open_database(tmp_path)
    assert found.measure == "loss"
    assert found.harm("a", choice) == both.harm("a", choice)
    again = make(layers, tmp_path)  # the loss's harm stays beside it
    assert again.harm("a", choice) == plain.harm("a", choice)
    assert again.harm("a", choice, "loss") == both.harm("a", choice)


def test_other_gradients_renew_only_the_harm(curved, tmp_path, counted):
    first = make(curved, tmp_path, harm="loss")
    weights, evidence = curved
    doubled = {
        name: LayerEvidence(
            known.second_moment, known.samples, output_curvature=known.output_curvature * 2
        )
        for name, known in evidence.items()
    }
    second = make((weights, doubled), tmp_path, harm="loss")
    assert len(counted) == 4
    assert second.harm("a", CHOICES[1]) == pytest.approx(2 * first.harm("a", CHOICES[1]))


def test_pieces_of_an_earlier_version_are_computed_again(layers, tmp_path, counted):
    make(layers, tmp_path)
    for piece in tmp_path.glob("*.safetensors"):
        text = piece.read_bytes()
        old = text.replace(b'schema_version\\": 2', b'schema_version\\": 1')
        assert old != text
        piece.write_bytes(old)
    make(layers, tmp_path)
    assert len(counted) == 8


class Counting:
    """Evidence that counts how many of its kind are alive."""

    alive = 0
    most = 0

    def __init__(self, known):
        self._known = known

    def load(self):
        found = LayerEvidence(self._known.second_moment.copy(), self._known.samples)
        Counting.alive += 1
        Counting.most = max(Counting.most, Counting.alive)
        weakref.finalize(found.second_moment, self._gone)
        return found

    def _gone(self):
        Counting.alive -= 1


def test_evidence_of_one_layer_at_a_time_is_in_memory(layers, tmp_path):
    weights, evidence = layers
    names = [f"{name}{index}" for name in weights for index in range(4)]
    many = {name: weights[name[:-1]] for name in names}
    gc.collect()
    Counting.alive = Counting.most = 0
    sources = {name: Counting(evidence[name[:-1]]) for name in names}
    build_database(many, sources, dict.fromkeys(names, CHOICES), tmp_path)
    assert Counting.alive == 0
    assert Counting.most <= 2  # one layer's goes while the next one's comes


class Crowd:
    """Children of which one at a time answers, the one that has its job longest."""

    def __init__(self):
        self._jobs = []
        self.most = 0

    def submit(self, job):
        self._jobs.append(job)
        self.most = max(self.most, len(self._jobs))

    def wait(self):
        return [(self._jobs.pop(0), None)]


@pytest.mark.parametrize(("room", "together"), [(10.0, 3), (2.5, 2), (0.1, 1)])
def test_no_more_paths_are_under_way_than_fit_the_memory(layers, tmp_path, room, together):
    inputs = build._Inputs(*layers, tmp_path, PruningMethod())
    todo = [job for name in layers[0] for job in build._paths(inputs, name, CHOICES)]
    needed = max(map(build._needed_bytes, todo))
    crowd = Crowd()
    found = list(build._within(todo, inputs, crowd, workers=3, spare=lambda: int(room * needed)))
    assert set(found) == set(todo)
    assert crowd.most == together


class Robbed(Crowd):
    """The first that ends is one that was killed; then there is no memory left."""

    def __init__(self, room):
        super().__init__()
        self._spare, self._is_robbed = room, False

    def spare(self):
        return self._spare

    def wait(self):
        if self._is_robbed:
            return super().wait()
        self._is_robbed, self.most, self._spare = True, 0, 0
        return [(self._jobs.pop(0), WorkerDiedError("signal SIGKILL"))]


def test_after_a_worker_was_killed_the_memory_is_looked_at_again(layers, tmp_path):
    inputs = build._Inputs(*layers, tmp_path, PruningMethod())
    todo = [job for name in layers[0] for job in build._paths(inputs, name, CHOICES)]
    crowd = Robbed(room=10 * max(map(build._needed_bytes, todo)))
    found = list(build._within(todo, inputs, crowd, workers=3, spare=crowd.spare))
    assert sorted(map(str, found)) == sorted(map(str, todo))
    assert crowd.most == 2  # the two that ran beside it, and what takes no more than they did


@pytest.mark.slow
def test_an_interrupt_ends_the_workers(layers, tmp_path):
    def interrupt(step):
        if step.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(layers, tmp_path, workers=2, progress=interrupt)
    assert multiprocessing.active_children() == []


def test_progress_tells_pieces_and_work(layers, tmp_path):
    steps = []
    make(layers, tmp_path, progress=steps.append)
    total = steps[0].total
    assert [step.done for step in steps] == list(range(total + 1))
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (pytest.approx(0.0), pytest.approx(1.0))
    again = []
    make(layers, tmp_path, progress=again.append)
    assert [(step.done, step.share) for step in again] == [(total, pytest.approx(1.0))]
