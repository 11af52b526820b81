"""benchmarks/choices.py: the engine with knobs is the engine; what is chosen; its refusals."""

import ctypes
import json
import shutil
from functools import partial
from pathlib import Path

import choices
import pytest
from alternatives import ALTERNATIVES, Edit, Knobs, build, write_sources
from networks import NETWORKS
from random_models import Case

from pruneaug_cli.core import BlockShape
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.kernels.native.compiler import SOURCES
from tests.unit.scripts import require_refusal, run_script

CASE = Case(NETWORKS["mlp-b16"], BlockShape(32, 1), 0.9)


run = partial(run_script, choices)


def compared(usual_s: list[float], other_s: list[float]) -> choices.Compared:
    return choices.Compared({"a": usual_s}, {"a": other_s})


def test_every_edit_fits_the_sources(tmp_path: Path) -> None:
    made = write_sources(tmp_path)
    text = "".join(path.read_text("utf-8") for path in made.glob("*.c"))
    for alternative in ALTERNATIVES:
        assert f"int knob_{alternative.knob}" in text


def test_an_edit_that_no_longer_fits_is_refused(tmp_path: Path) -> None:
    shutil.copy(SOURCES / "product.c", tmp_path)
    with pytest.raises(UnsupportedError) as error:
        Edit("product.c", "NO SUCH TEXT", "").apply(tmp_path)
    assert str(error.value) == "product.c: 'NO SUCH TEXT' is there 0 times, expected once"
    assert error.value.hint == "move the edit in benchmarks/alternatives.py along with the source"


def test_rounds_that_choose_do_not_say_what_the_choice_is_worth() -> None:
    lucky = compared([1.0] * 8, [0.8, 1.1] * 4)
    assert choices.choose({"lucky": lucky}) == {"a": ("lucky", pytest.approx(1.1))}


@pytest.mark.parametrize(
    ("other_s", "why"),
    [([0.99] * 8, "too little"), ([0.9, 0.9, 0.9, 0.9, 1.2, 1.2, 1.2, 1.2], "not clearly less")],
)
def test_what_is_not_clearly_less_is_no_choice(other_s: list[float], why: str) -> None:
    assert choices.choose({"other": compared([1.0] * 8, other_s)}) == {"a": (None, 1.0)}, why


def test_the_last_row_adds_up_what_the_choices_save() -> None:
    usual_s = {"a": [3.0] * 4, "b": [1.0] * 4}
    again = choices.Compared(usual_s, usual_s)
    other = choices.Compared(usual_s, {"a": [1.5] * 4, "b": [2.0] * 4})
    first, second, whole = choices.rows(CASE, {choices.AGAIN: again, "other": other})
    assert (first["step"], first["share"], first["chosen"], first["ratio"]) == (
        "a", 0.75, "other", 0.5,
    )  # fmt: skip
    assert (second["step"], second["chosen"], second["ratio"]) == ("b", None, 1.0)
    assert whole["gain"] == pytest.approx(1.5 / 4.0)
    assert whole["ratios"] == {choices.AGAIN: 1.0, "other": pytest.approx(3.5 / 4.0)}


@pytest.mark.slow
def test_knobs_turn_and_turn_back() -> None:
    library = build()
    knobs, functions = Knobs(library), ctypes.CDLL(str(library))
    for alternative in ALTERNATIVES:
        array = ctypes.c_int * (alternative.index + 1)
        knob = array.in_dll(functions, f"knob_{alternative.knob}")
        usual = knob[alternative.index]
        with knobs.turned(alternative):
            assert knob[alternative.index] == alternative.value != usual
        assert knob[alternative.index] == usual


@pytest.mark.slow
def test_alternatives_give_the_same_bits_and_one_row_per_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--networks", "resnet20-32", "--rounds", "2", "--jsonl", str(tmp_path / "rows"))
    assert run(monkeypatch, *words) == 0
    said = capsys.readouterr()
    assert "other bits" not in said.err
    *steps, whole = map(json.loads, said.out.splitlines())
    assert whole["seconds"] == pytest.approx(sum(step["seconds"] for step in steps))
    assert set(whole["ratios"]) == {
        choices.AGAIN, *(item.name for item in ALTERNATIVES if item.op == "Conv"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--networks resnet21", "--networks: no network 'resnet21'"),
        ("--networks mlp-b1 --sparsity 1.0", "--sparsity: expected a sparsity in [0, 1) such as"),
        ("--networks mlp-b1 --threads 0", "--threads: expected at least 1, got 0"),
        ("--networks mlp-b1 --rounds 1", "--rounds: expected at least 2, got 1"),
    ],
)
def test_refusals_are_one_line(
    words: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *words.split()) == 2
    require_refusal(choices, capsys.readouterr().err, message)
