"""Meeting a target as measured: when a run has missed it, and what is planned for then."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pruneaug_cli.app.front import read_front, trial_of
from pruneaug_cli.app.margin import may_tighten, planned_latency_s, steps, tighter, write_step
from pruneaug_cli.app.outcome import drop_of, misses, slowness
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.report import write_report
from pruneaug_cli.app.results import RunResult
from pruneaug_cli.app.run import require_goals
from pruneaug_cli.app.run_directory import RunDirectory, StoredPlan
from pruneaug_cli.core import DENSE, Plan
from pruneaug_cli.errors import BudgetError, RunError
from pruneaug_cli.report.family import tightened_note

DENSE_S = 0.012
PLAN = Plan.of({"fc": DENSE})
TARGETS = {"goal.max_drop": None, "goal.target_speedup": 3.0}


def document(goal, *, speedup=2.5, latency_s=0.0048, metric=0.95):
    return {
        "goal": {"max_drop": None, "target_latency_s": None, "target_speedup": None} | goal,
        "higher_is_better": True,
        "dense": {"metric": 0.97, "latency_s": DENSE_S},
        "sparse": {"metric": metric, "latency_s": latency_s},
        "speedup": speedup,
    }


SPEEDUP = {"target_speedup": 3.0, "target_latency_s": 0.004}


@pytest.mark.parametrize(
    ("goal", "slow", "reasons"),
    [
        ({"max_drop": 0.01}, None, ["the metric fell by 0.02, more than 0.01"]),
        ({"max_drop": 0.02}, None, []),
        (SPEEDUP, 1.2, ["the measured speed-up is 2.50, less than 3"]),
        ({"target_latency_s": 0.004}, 1.2, ["the measured latency is 4.8 ms, more than 4 ms"]),
        ({"target_latency_s": 0.005}, 0.96, []),
        (
            SPEEDUP | {"max_drop": 0.0},
            1.2,
            [
                "the metric fell by 0.02, more than 0",
                "the measured speed-up is 2.50, less than 3",
            ],
        ),
    ],
)
def test_a_goal_is_missed_by_measured_values(goal, slow, reasons):
    known = document(goal)
    assert slowness(known) == (slow if slow is None else pytest.approx(slow))
    assert misses(known) == reasons


def test_a_metric_where_less_is_better_falls_upwards():
    known = document({"max_drop": 0.01}, metric=0.99) | {"higher_is_better": False}
    assert drop_of(known) == pytest.approx(0.02)
    assert len(misses(known)) == 1


def test_a_missed_goal_is_refused_with_the_result(tmp_path):
    run = RunDirectory(tmp_path)
    run.update_result(document(SPEEDUP))
    result = RunResult(tmp_path, {}, report=tmp_path / "report.html")
    with pytest.raises(BudgetError) as refusal:
        require_goals(run, result)
    assert str(refusal.value) == "the goal is missed: the measured speed-up is 2.50, less than 3"
    assert refusal.value.hint.startswith(f"see {result.report}; train longer")
    assert refusal.value.found is result
    assert write_report(run).document["missed"] == ["the measured speed-up is 2.50, less than 3"]
    assert "missed" not in run.read_result()


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_plan(StoredPlan(PLAN, 0.0038, "weights", "prices"))
    return run


def priced(digest="prices"):
    return SimpleNamespace(
        target_latency_s=lambda recipe: DENSE_S / recipe.goal.target_speedup,
        planned_latency_s=lambda recipe: 0.95 * DENSE_S / recipe.goal.target_speedup,
        digest=lambda: digest,
    )


@pytest.fixture
def recipe():
    return read_recipe(None, overrides=TARGETS)


def tighten(run, recipe, known=None, *, reason=None):
    """What is done when ``known`` was measured; whether it asked for anything."""
    step = tighter(run, recipe, priced(), known or document(SPEEDUP))
    if step is not None:
        write_step(run, recipe, priced(), {**step, "reason": reason})
    return step is not None


def test_a_missed_target_is_tightened_by_the_measured_error(run, recipe):
    assert planned_latency_s(run, recipe, priced()) == pytest.approx(0.0038)
    assert tighten(run, recipe)
    # predicted 3.8 ms became 1.2 times what is allowed; one percent more for the bench's noise
    assert planned_latency_s(run, recipe, priced()) == pytest.approx(0.0038 / 1.2 * 0.99)


def test_it_is_tightened_twice_and_no_more(run, recipe):
    assert [tighten(run, recipe) for _ in range(3)] == [
        True, True, False,
    ]  # fmt: skip
    assert len(steps(run, recipe, priced())) == 2


def test_a_met_target_asks_for_nothing(run, recipe):
    assert not tighten(run, recipe, document(SPEEDUP, speedup=3.0))
    assert planned_latency_s(run, recipe, priced()) == pytest.approx(0.0038)


def test_where_no_plan_was_found_the_step_before_holds(run, recipe):
    tighten(run, recipe)
    first = planned_latency_s(run, recipe, priced())
    tighten(run, recipe, reason="no plan is that fast")
    assert planned_latency_s(run, recipe, priced()) == first
    assert not may_tighten(run, recipe, priced())


@pytest.mark.parametrize(
    ("goal", "digest"), [({"goal.target_speedup": 2.0}, "prices"), (TARGETS, "other prices")]
)
def test_what_was_measured_for_another_target_does_not_count(run, recipe, goal, digest):
    tighten(run, recipe)
    other = read_recipe(None, overrides={"goal.max_drop": None, **goal})
    assert steps(run, other, priced(digest)) == []


def test_the_report_says_how_often_and_where_it_ended(run, recipe):
    assert tightened_note(None) == ""
    tighten(run, recipe)
    said = run.read_result()["tightened"]
    assert tightened_note(said) == (
        "The target was missed as measured and tightened once: at last to 3.135 ms predicted, "
        "after 4.800 ms were measured where 3.800 ms had been predicted."
    )
    tighten(run, recipe, reason="no plan is that fast")
    assert tightened_note(run.read_result()["tightened"]).endswith(
        "; in vain: no plan is that fast."
    )


def test_a_member_knows_its_family_and_what_they_share(tmp_path):
    family = RunDirectory(tmp_path / "a")
    member = family.member("2x")
    member.update_result({"member": "2x"})
    family.update_result({"family": [{"name": "2x"}]})
    found = RunDirectory.at(tmp_path / "a" / "2x")
    assert found == member
    assert (found.study, found.database) == (family.study, family.database)
    assert (found.plan, found.profile) == (
        tmp_path / "a/2x/plan.json",
        tmp_path / "a/2x/profile.json",
    )
    assert RunDirectory.at(tmp_path / "a").members() == (member,)
    assert RunDirectory.at(tmp_path / "b") == RunDirectory(tmp_path / "b")


def front(run: RunDirectory, **changes: object) -> RunDirectory:
    point = {"trial": 7, "predicted_latency_s": 0.001, "metric": 0.9, "plan": {"fc": "dense"}}
    document = {"schema_version": 2, "front": [point | {"trial": 3}, point]} | changes
    Path(run.front).write_text(json.dumps(document))
    return run


def test_a_trial_of_the_front_is_read(run):
    trial = trial_of(front(run), read_front(run), 7)
    assert (trial.number, trial.plan, trial.predicted_latency_s) == (7, PLAN, 0.001)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({}, "front.json: trial 5 is not on the front", "its trials, fastest first: 3, 7"),
        ({"front": [{}]}, "front.json: missing 'trial'", None),
        ({"front": [{"trial": "x"}]}, "front.json: invalid literal", None),
        (
            {"schema_version": 1},
            "front schema 1 is not the supported 2",
            "pruneaug search CHECKPOINT --task TASK --platform PLATFORM --run",
        ),
    ],
)
def test_a_trial_that_is_not_there_is_refused(run, changes, message, hint):
    front(run, **changes)
    with pytest.raises(RunError, match=message) as refusal:
        trial_of(run, read_front(run), 5)
    assert hint is None or hint in (refusal.value.hint or "")


def test_without_a_search_there_is_no_front(run):
    with pytest.raises(RunError, match=r"has no front\.json yet") as refusal:
        read_front(run)
    assert (refusal.value.hint or "").endswith(run.search_command)
