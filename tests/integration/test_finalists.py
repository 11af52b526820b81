"""The best few plans are trained for a short time; who goes on after a kill trains none twice."""

import json

import pytest

import pruneaug_cli.app.finalists
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
    finalists = {finalist["trial"]: finalist["metric"] for finalist in search["finalists"]}
    assert len(finalists) == len(trainings) - 1 >= 2
    assert finalists[search["chosen"]] == max(finalists.values())
    assert not list(run.glob("finalist-*"))

    trainings.clear()
    assert invoke(*words).code == 0
    assert not trainings  # all is known
    assert invoke(*words, "--set", "search.finalist_epochs=0").code == 0
    assert json.loads((run / "result.json").read_text())["search"]["finalists"] == []
