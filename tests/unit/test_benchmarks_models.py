"""benchmarks/models.py: its networks are what their files say; its rows; its refusals."""

import json
from functools import partial
from pathlib import Path

import models
import pytest
import torch
import whole
from networks import NETWORKS
from random_models import Case, prune, write_files
from shapes import FOLDER, describe, read_shapes

from pruneaug_cli.core import BlockShape
from pruneaug_cli.errors import InputError
from pruneaug_cli.runtime import Samples
from tests.unit.scripts import require_refusal, run_script

run = partial(run_script, models)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_of_a_network_lists_its_layers(name: str) -> None:
    assert (FOLDER / f"{name}.txt").read_text("utf-8") == describe(name)
    assert read_shapes(FOLDER / f"{name}.txt")


def test_only_the_first_layer_of_a_convolutional_network_stays_dense() -> None:
    pruned = prune(Case(NETWORKS["resnet20-32"], BlockShape(8, 1), 0.75))
    assert set(pruned.prunable) - set(pruned.masks) == {pruned.prunable[0]}
    assert all(mask.sparsity == pytest.approx(0.75, abs=0.01) for mask in pruned.masks.values())


def test_activations_keep_their_size_in_a_deep_network() -> None:
    pruned = prune(Case(NETWORKS["resnet56-32"], BlockShape(8, 1), 0.9))
    with torch.no_grad():
        answer = pruned.model(pruned.example)
    assert 0.1 < float(answer.abs().max()) < 100.0


@pytest.mark.slow
def test_a_row_holds_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    words = ("--networks", "resnet20-32", "--sparsity", "0.9", "--seconds", "0.2", "--stock")
    assert run(monkeypatch, *words, "--dense-regions", "--jsonl", str(rows)) == 0
    printed = capsys.readouterr().out
    assert printed == rows.read_text("utf-8")
    sparse, dense = map(json.loads, printed.splitlines())
    assert sparse["network"] == "resnet20-32"
    assert sparse["block"] == "8x1"
    assert (sparse["sparsity"], dense["sparsity"]) == (0.9, 0.0)
    assert sparse["speedup"] == pytest.approx(sparse["dense_s"] / sparse["sparse_s"], rel=0.5)
    assert sparse["size_bytes"] < 0.2 * sparse["dense_size_bytes"]
    assert sparse["memory"]["weights_bytes"] > 0
    assert sparse["max_abs_diff"] < 1e-4
    assert sparse["stock_s"] > 0.0
    assert sparse["deepsparse_s"] is None
    assert sparse["peers"]["deepsparse_s"] == "not asked for: see --peers"


@pytest.mark.slow
def test_files_are_kept_until_they_are_damaged_or_of_another_format(tmp_path: Path) -> None:
    case = Case(NETWORKS["resnet20-32"], BlockShape(8, 1), 0.9)
    library = tmp_path / "library.so"
    library.write_bytes(b"not run here")
    files = write_files(case, tmp_path, library)
    exported = files.sparse.read_bytes()
    files.dense.write_bytes(b"kept")
    assert write_files(case, tmp_path, library) == files
    assert files.dense.read_bytes() == b"kept"
    files.sparse.write_bytes(exported[:-100])
    write_files(case, tmp_path, library)
    assert files.sparse.read_bytes() == exported
    assert files.dense.read_bytes() != b"kept"


def test_a_change_of_speed_between_rounds_moves_no_ratio() -> None:
    fast, slow = Samples((1.0, 1.0, 3.0, 3.0, 3.0)), Samples((4.0, 4.0, 4.0, 12.0, 12.0))
    assert whole.in_turns(slow, fast) == 4.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--networks resnet21", "--networks: no network 'resnet21'"),
        ("--networks mlp-b1 --sparsity 1.0", "--sparsity: expected a sparsity in [0, 1) such as"),
        ("--networks mlp-b1 --block 8", "--block: expected ROWSxCOLS such as 8x1, got '8'"),
        ("--networks mlp-b1 --threads 0", "--threads: expected at least 1, got 0"),
        ("--networks mlp-b1 --seconds 0", "--seconds: expected more than 0, got 0"),
        ("--networks mlp-b1 --peers tvm", "--peers: no peer 'tvm'"),
        ("--exported nowhere", "--exported: no file nowhere"),
        ("--sparsity 0.9", "nothing to measure"),
        ("--networks mlp-b1 --prepare", "--prepare: writes files and stops, so it needs --files"),
    ],
)
def test_refusals_are_one_line(
    words: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *words.split()) == 2
    require_refusal(models, capsys.readouterr().err, message)


def test_a_damaged_shapes_file_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "shapes.txt"
    path.write_text("linear 2 3 4\nconv 1\n", "utf-8")
    with pytest.raises(InputError, match=r"shapes.txt:2: bad geometry 'conv 1': expected"):
        read_shapes(path)
    path.write_text("# nothing\n", "utf-8")
    with pytest.raises(InputError, match="expected at least one geometry, found none"):
        read_shapes(path)
