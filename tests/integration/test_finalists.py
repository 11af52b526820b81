"""The best few plans are trained for a short time; who goes on after a kill trains none twice."""

import json
import time
from types import SimpleNamespace

import pytest

import pruneaug_cli.app.finalists
import pruneaug_cli.app.search
from pruneaug_cli.training import finetune

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole-way")]


def test_finalists_are_trained_once_and_the_winner_is_one_of_them(
    mini_profile, invoke, tmp_path, monkeypatch
):
    trainings = []
    dies_at = [2]

    def counted(*args, **settings):
        trainings.append(settings["state_path"].name)
        if len(trainings) == dies_at[0]:
            raise KeyboardInterrupt
        return finetune(*args, **settings)

    monkeypatch.setattr(pruneaug_cli.app.finalists, "finetune", counted)
    run = tmp_path / "run"
    words = (
        "search", "--task", "builtin:digits-mini", "--platform", mini_profile, "--run", run,
        "--target-speedup", "1.05", "--trials", "4", "--json",
    )  # fmt: skip
    assert invoke(*words).code == 130
    assert len(trainings) == 2
    assert not (run / "plan.json").exists()
    dies_at[0] = 0
    assert invoke(*words).code == 0
    assert trainings[2] == trainings[1]
    assert len(set(trainings)) == len(trainings) - 1
    search = json.loads((run / "result.json").read_text())["search"]
    finalists = {entry["trial"]: entry["metric_after"] for entry in search["finalists"]}
    before = {trial["number"]: trial["metric"] for trial in search["trials"]}
    assert all(entry["metric_before"] == before[entry["trial"]] for entry in search["finalists"])
    assert not search["finalists_untrained"]
    assert len(finalists) == len(trainings) - 1 >= 2
    assert finalists[search["chosen"]] == max(finalists.values())
    assert not list(run.glob("finalist-*"))

    trainings.clear()
    assert invoke(*words).code == 0
    assert not trainings  # all is known
    assert invoke(*words, "--set", "search.finalist_epochs=0").code == 0
    assert json.loads((run / "result.json").read_text())["search"]["finalists"] == []


def test_no_finalist_is_begun_when_the_time_is_over(mini_profile, invoke, tmp_path, monkeypatch):
    trainings = []

    def counted(*args, **settings):
        trainings.append(settings["state_path"].name)
        return finetune(*args, **settings)

    run = tmp_path / "run"
    words = (
        "search", "--task", "builtin:digits-mini", "--platform", mini_profile, "--run", run,
        "--target-speedup", "1.05", "--trials", "4", "--timeout", "1h",
    )  # fmt: skip
    monkeypatch.setattr(pruneaug_cli.app.finalists, "finetune", counted)
    with monkeypatch.context() as patched:  # every training takes an hour
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600.0 * len(trainings))
        patched.setattr(pruneaug_cli.app.search, "time", clock)
        outcome = invoke(*words)
    assert outcome.code == 0, outcome.err
    assert "the answer is the best of 1 that were. To train the others" in outcome.out
    search = json.loads((run / "result.json").read_text())["search"]
    assert search["finalists_untrained"]
    assert [entry["trial"] for entry in search["finalists"]] == [search["chosen"]]

    assert invoke(*words).code == 0
    search = json.loads((run / "result.json").read_text())["search"]
    assert not search["finalists_untrained"]
    assert len(search["finalists"]) == len(trainings) >= 2


def test_finalists_whose_training_diverges_leave_the_search_its_answer(
    mini_profile, invoke, tmp_path
):
    run = tmp_path / "run"
    words = (
        "search", "--task", "builtin:digits-mini", "--platform", mini_profile, "--run", run,
        "--max-drop", "0.05", "--trials", "4", "--set", "finetune.lr=1e30", "--json",
    )  # fmt: skip
    outcome = invoke(*words)
    assert outcome.code == 0, outcome.err
    finalists = json.loads(outcome.out)["search"]["finalists"]
    assert finalists
    assert all(entry["metric_after"] is None for entry in finalists)
    assert (run / "plan.json").exists()
    again = invoke(*words)
    assert again.code == 0
    assert "training finalist" not in again.err
