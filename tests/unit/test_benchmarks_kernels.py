"""benchmarks/kernels.py and table.py: rows, references, break-even, refusals."""

import json
from functools import partial
from pathlib import Path

import kernels
import numpy as np
import pytest
import single
import table
from shapes import FOLDER

from pruneaug_cli.core import BlockShape, LayerChoice, parse_geometry
from pruneaug_cli.errors import InputError
from pruneaug_cli.profiling.layer_model import layer_matrix
from tests.unit.scripts import require_refusal, run_script

LINEAR = "linear 64 48 8\n"
CONV = "conv 16 8 3 3 6 6 1 1\n"


run = partial(run_script, kernels)


@pytest.mark.slow
@pytest.mark.parametrize("via", single.VIAS)
def test_a_row_holds_what_was_measured(
    via: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes, rows = tmp_path / "shapes.txt", tmp_path / "rows.jsonl"
    shapes.write_text(LINEAR + CONV, "utf-8")
    words = f"--blocks 8x1 --sparsities 0.5 --seconds 0.05 --via {via} --reference scipy,torch"
    assert run(monkeypatch, "--shapes", str(shapes), *words.split(), "--jsonl", str(rows)) == 0
    linear, conv = map(json.loads, rows.read_text("utf-8").splitlines())
    assert (linear["op"], conv["op"]) == ("linear", "conv")
    assert linear["geometry"] == LINEAR.strip()
    assert linear["efficiency"] == pytest.approx(0.5 * linear["speedup"])
    assert linear["gflops"] == pytest.approx(64 * 48 * 8 / linear["sparse_s"] * 1e-9)
    assert linear["scipy_s"] > 0.0
    assert linear["torch_s"] > 0.0
    assert conv["via"] == via
    assert "| layer | block |" in table.table(table.read_rows(rows))


@pytest.mark.slow
def test_break_even_stops_at_the_first_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = tmp_path / "shapes.txt"
    shapes.write_text("linear 256 256 64\n", "utf-8")
    words = "--blocks 8x1,32x1 --seconds 0.05 --via onnxruntime --break-even"
    assert run(monkeypatch, "--shapes", str(shapes), *words.split()) == 0
    row, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert row["block"] in {"8x1", "32x1"}
    *before, last = row["speedups"].values()
    assert max(before, default=0.0) <= 1.0 < last
    assert list(row["speedups"])[-1] == f"{row['break_even']:g}"
    assert summary == {
        "geometries": 1, "at": 0.1, "early": int(row["break_even"] <= 0.1),
        "share": float(row["break_even"] <= 0.1),
    }  # fmt: skip


def test_references_multiply_the_same_weight() -> None:
    geometry = parse_geometry(CONV)
    matrix = layer_matrix(geometry, LayerChoice(BlockShape(8, 1), 0.5), seed=0).unpack()
    columns = single._columns(geometry, single.layer_input(geometry))
    assert columns.shape == (8 * 3 * 3, 6 * 6)
    # each sums 72 products: 72 * 2^-24 of sums of |w||x|, far below 1e-5 of these magnitudes
    for make, block in ((single._scipy, (8, 1)), (single._torch, (8, 8))):
        product = np.asarray(make(matrix, block, columns)())
        np.testing.assert_allclose(product, matrix @ columns, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--shapes nowhere.txt", "nowhere.txt: no such shapes file"),
        ("--blocks 8", "--blocks: expected ROWSxCOLS such as 8x1, got '8'"),
        ("--sparsities most", "--sparsities: expected a sparsity in [0, 1) such as 0.9"),
        ("--reference mkl", "--reference: no library 'mkl'"),
        ("--threads 2", "--threads: --via ctypes runs on one thread, got 2"),
    ],
)
def test_refusals_are_one_line(
    words: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shapes = () if "--shapes" in words else ("--shapes", str(FOLDER / "short.txt"))
    assert run(monkeypatch, *shapes, *words.split()) in {2, 3}
    require_refusal(kernels, capsys.readouterr().err, message)


def test_a_table_refuses_what_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"speedup": 1}\n{"a": 1}\n', "utf-8")
    with pytest.raises(InputError, match=r"rows.jsonl:2: no row of models.py, kernels.py or se"):
        table.read_rows(path)
    path.write_text("{\n", "utf-8")
    with pytest.raises(InputError, match=r"rows.jsonl:1: not JSON"):
        table.read_rows(path)
    path.write_text("", "utf-8")
    with pytest.raises(InputError, match="expected at least one row, found none"):
        table.read_rows(path)


def test_tables_go_into_their_place_in_a_document(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"a\n{table.BEGIN}\nold\n{table.END}\nz\n", "utf-8")
    table.put_into(path, "new")
    assert path.read_text("utf-8") == f"a\n{table.BEGIN}\n\nnew\n{table.END}\nz\n"
    path.write_text("a\n", "utf-8")
    with pytest.raises(InputError, match="expected the lines '<!-- results"):
        table.put_into(path, "new")


def test_the_page_of_results_has_that_place() -> None:
    page = (FOLDER.parents[1] / "docs" / "benchmarks.md").read_text("utf-8")
    assert page.count(table.BEGIN) == page.count(table.END) == 1
