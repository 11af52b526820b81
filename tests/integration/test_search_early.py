"""Hopeless evaluations end early, and the answer is one that was evaluated to its end."""

import json

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole-way")]


def test_hopeless_plans_are_given_up_and_the_answer_is_not_one(mini_profile, invoke, tmp_path):
    def searched(run, *settings):
        words = (
            "search", "--task", "builtin:digits-mini", "--platform", mini_profile,
            "--run", tmp_path / run, "--max-drop", "0.01", "--trials", "8",
            "--set", "search.strategy=random", "--set", "finetune.epochs=0", "--json", *settings,
        )  # fmt: skip
        outcome = invoke(*words)
        assert outcome.code in {0, 6}, outcome.err
        return outcome

    early = searched("early", "--set", "goal.max_drop=0.05")
    trials = json.loads((tmp_path / "early" / "result.json").read_text())["search"]
    given_up = {trial["number"] for trial in trials["trials"] if trial["samples"]}
    assert given_up, early.out
    assert all(trial["samples"] < trial["of"] for trial in trials["trials"] if trial["samples"])
    assert not given_up & {trials["chosen"], *trials["front"]}
