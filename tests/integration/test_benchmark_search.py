"""benchmarks/search.py on a small real model."""

import json
from pathlib import Path

import pytest
import search

from tests.unit.scripts import run_script

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole-way")]


def test_strategies_compete_on_the_small_network(
    mini_profile: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (
        "--task", "builtin:digits-mini", "--platform", str(mini_profile),
        "--strategies", "knapsack,nsga2,greedy,unstructured", "--evaluations", "6",
        "--seeds", "1", "--max-drop", "0.05", "--seconds", "0.1",
        "--jsonl", str(tmp_path / "rows.jsonl"), "--folder", str(tmp_path / "kept"),
    )  # fmt: skip
    assert run_script(search, monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "rows.jsonl").read_text("utf-8")
    uniform, *rows, unstructured = map(json.loads, printed.splitlines())
    assert (uniform["strategy"], uniform["evaluations"]) == ("all-uniform", 16)
    assert unstructured["note"].endswith("no layer has options with blocks of 1x1")
    assert [row["strategy"] for row in rows] == ["knapsack", "nsga2", "greedy"]
    for row in rows:
        assert (row["seed"], row["evaluations"]) == (1, 6)
        assert row["seconds"] > row["search_s"] > 0.0
        assert 0.0 <= row["hypervolume"] < 1.0
        assert row["evaluations_to_best_uniform"] in {None, 1, 2, 3, 4, 5, 6}
        assert [found["max_drop"] for found in row["at"]] == [0.025, 0.05, 0.1]
        for found in row["at"]:
            if found["latency_s"] is not None:
                assert found["drop"] <= found["max_drop"] + 1e-9
                assert found["drop"] == pytest.approx(row["dense_metric"] - found["metric"])
                assert found["speedup"] == pytest.approx(
                    found["dense_latency_s"] / found["latency_s"]
                )
    kept = (tmp_path / "kept" / "evaluations.jsonl").read_text("utf-8").splitlines()
    assert 1 + 16 <= len(kept) <= 1 + 16 + 3 * 6
