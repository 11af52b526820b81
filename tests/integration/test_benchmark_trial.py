"""benchmarks/trial.py on a small real model."""

import json
from pathlib import Path

import pytest
import trial

from tests.unit.scripts import run_script

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole-way")]


def test_a_trial_is_timed_beside_its_passes(
    mini_profile: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (
        "--task", "builtin:digits-mini", "--platform", str(mini_profile), "--trials", "4",
        "--max-drop", "0.05", "--threads", "1", "--folder", str(tmp_path),
    )  # fmt: skip
    assert run_script(trial, monkeypatch, *words) == 0
    passes, search = map(json.loads, capsys.readouterr().out.splitlines())
    assert passes["seconds"] == pytest.approx(passes["batch_norm_s"] + passes["evaluation_s"])
    assert (search["trials"], search["workers"]) == (4, 1)
    assert search["ratio"] == pytest.approx(search["trial_s"] / passes["seconds"])
    assert search["seconds"] > search["prepared_s"] + 3 * search["trial_s"]
    assert search["cpu_s"] > 0.0
    assert 0.0 < search["share_seen"] <= 1.0
    assert (search["early"] > 0) == (search["share_seen"] < 1.0)
    assert search["drop"] <= 0.05 + 1e-9


def test_one_trial_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--task", "builtin:digits-mini", "--platform", "x", "--trials", "1")
    assert run_script(trial, monkeypatch, *words) == 2
    assert "--trials: expected at least 2, got 1" in capsys.readouterr().err
