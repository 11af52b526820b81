"""A family of goals from one study, other questions to it, points of its front, missed targets."""

import json
import math
import shutil

import pytest

from pruneaug_cli.app import finish
from pruneaug_cli.app.outcome import slowness
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.evaluation import StitchedEvaluator
from pruneaug_cli.search import run_family

pytestmark = pytest.mark.xdist_group("whole-way")

TARGETS = {"1.2x": 1.2, "1.6x": 1.6}


@pytest.fixture(scope="module")
def recipe(mini_profile, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "family.yaml"
    path.write_text(
        "task: builtin:digits-mini\n"
        f"platform: {mini_profile}\n"
        "goal: {max_drop: 0.5, target_speedup: [1.2, 1.6]}\n"
        "search: {trials: 8}\n"
        "finetune: {epochs: 1}\n"
        "bench: {budget: 300ms}\n"
    )
    return path


@pytest.fixture(scope="module")
def searched(recipe, tmp_path_factory):
    """The folder of a family after its search."""
    from pruneaug_cli.app.requests import SearchRequest
    from pruneaug_cli.app.search import run_search

    path = tmp_path_factory.mktemp("runs") / "mini"
    run_search(SearchRequest(recipe=recipe, run_dir=path))
    return path


@pytest.fixture
def family(searched, tmp_path):
    """A copy of it."""
    return shutil.copytree(searched, tmp_path / "mini")


def read(path):
    return json.loads(path.read_text())


def search(invoke, recipe, run, *words):
    outcome = invoke("search", "--recipe", recipe, "--run", run, "--json", *words)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out), outcome.err


def test_every_member_has_a_plan_for_its_target_from_one_study(searched):
    result = read(searched / "result.json")
    assert [member["name"] for member in result["family"]] == list(TARGETS)
    assert result["trials"] == result["search"]["evaluations"] == 8
    for name, target in TARGETS.items():
        member = read(searched / name / "result.json")
        assert member["goal"]["target_speedup"] == target
        assert member["predicted_speedup"] >= target / 0.95  # the recipe's margin
        assert member["trials"] == 8
        assert read(searched / name / "plan.json")["layers"] == member["plan"]
        assert not (searched / name / "study.db").exists()
    assert sum(read(searched / n / "result.json")["search"]["evaluations"] for n in TARGETS) == 8


def test_the_front_is_a_file_with_every_plan_on_it(searched):
    front = read(searched / "front.json")
    points = front["front"]
    assert [point["trial"] for point in points] == read(searched / "result.json")["search"]["front"]
    latencies = [point["predicted_latency_s"] for point in points]
    assert latencies == sorted(latencies)
    for point in points:
        assert point["drop"] == pytest.approx(front["dense"]["metric"] - point["metric"])
        assert point["predicted_speedup"] * point["predicted_latency_s"] == pytest.approx(
            front["dense"]["latency_s"]
        )
        assert point["plan"].keys() == points[0]["plan"].keys()


def test_the_commands_work_on_all_members_one_after_the_other(family, invoke):
    for words in (("finetune", family), ("export", family), ("bench", family), ("report", family)):
        outcome = invoke(*words, "--json")
        assert outcome.code == 0, outcome.err
        document = json.loads(outcome.out)
        assert [member["name"] for member in document["family"]] == list(TARGETS)
        assert "1.6x: " in outcome.err or words[0] == "report"
    for name, entry in zip(TARGETS, document["family"], strict=True):
        result = read(family / name / "result.json")
        assert (family / name / "checkpoint.safetensors").is_file()
        assert (family / name / "report.html").is_file()
        assert entry["speedup"] == result["speedup"] > 0.0
        assert entry["met"] == (result["speedup"] >= TARGETS[name])
        assert result["goal"]["target_speedup"] == TARGETS[name]
    assert "1.6x" in (family / "report.html").read_text()


def test_a_member_is_a_run_like_any_other(family, invoke, recipe):
    member = family / "1.6x"
    outcome = invoke("finetune", member, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["finetune"]["epochs"] == 1
    above = {entry["name"]: entry for entry in read(family / "result.json")["family"]}
    assert above["1.6x"]["metric"] == json.loads(outcome.out)["sparse"]["metric"]
    document, _ = search(invoke, member / "recipe.yaml", member)
    assert document["search"]["evaluations"] == 0
    assert document["finetune"]["epochs"] == 1  # the same plan: its training holds


def test_another_goal_costs_no_evaluation_and_more_trials_only_the_difference(
    family, invoke, recipe, monkeypatch
):
    asked = []
    monkeypatch.setattr(StitchedEvaluator, "__call__", counting(asked))
    document, err = search(invoke, recipe, family, "--target-speedup", "1.4")
    known = document["search"]["trials"]
    limit_s = 0.95 * document["goal"]["target_latency_s"]
    assert (document["search"]["evaluations"], asked) == (0, [])
    assert "8 trials, 0 of them new" in err
    within = [t["metric"] for t in known if t["predicted_latency_s"] <= limit_s]
    assert document["sparse"]["metric"] == max(within)
    assert "family" not in document
    assert document["front"] == read(family / "front.json")["front"]
    floor, _ = search(
        invoke, recipe, family, "--set", "goal={max_drop: [0.3, 0.2]}", "--set", "search.recovery=0"
    )
    assert [member["name"] for member in floor["family"]] == ["drop-0.3", "drop-0.2"]
    assert asked == []
    more, _ = search(invoke, recipe, family, "--trials", "10")
    assert more["search"]["evaluations"] == len(asked) == 2


def counting(asked):
    """The evaluation of a plan, which notes every call."""
    original = StitchedEvaluator.__call__

    def evaluate(self, plan):
        asked.append(plan)
        return original(self, plan)

    return evaluate


def test_the_dashboards_command_has_the_studys_address(family, invoke, recipe):
    document, err = search(invoke, recipe, family)
    assert document["dashboard"] == f"optuna-dashboard sqlite:///{family / 'study.db'}"
    assert f"Study: {document['dashboard']}" in err


def test_a_point_of_the_front_becomes_a_run_of_its_own(family, invoke):
    point = read(family / "front.json")["front"][0]
    outcome = invoke("choose", family, str(point["trial"]), "--json")
    assert outcome.code == 0, outcome.err
    chosen = json.loads(outcome.out)
    run = family / f"trial-{point['trial']}"
    assert chosen["run"] == str(run)
    assert chosen["plan"] == read(run / "plan.json")["layers"] == point["plan"]
    assert chosen["sparse"]["metric"] == point["metric"]
    assert (run / "pruned.safetensors").is_file()
    assert invoke("report", run).code == 0
    assert [member["name"] for member in read(family / "result.json")["family"]] == list(TARGETS)


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (
            "search --recipe {recipe} --run {run} --target-speedup 1.2,1000",
            6,
            "goal 1000x: no plan is predicted to be 1000 times as fast as the dense model",
            "can be reached: 1.2x",
        ),
        (
            "search --recipe {recipe} --run {run} --target-speedup 1.2,1.6,1.2",
            2,
            "options: goal.target_speedup: 1.2 is given twice",
            "see: pruneaug search --help",
        ),
        (
            "search --recipe {recipe} --run {run} --max-drop 0.1,0.2",
            2,
            "options: goal: expected several values of one kind, got several of max_drop and",
            "see: pruneaug search --help",
        ),
        (
            "search --recipe {recipe} --run {run}/1.2x",
            2,
            "mini/1.2x: belongs to a family, and has one goal",
            "ask for several in the family's folder: --run",
        ),
        (
            "export {run} --out m.onnx",
            2,
            "--out m.onnx: {run} holds 2 models, not one",
            "name one: pruneaug export {run}/1.2x --out FILE",
        ),
        (
            "bench {run} --batch 3",
            2,
            "--batch 3: {run} is a run, which is timed as it was exported",
            "name its file: pruneaug bench {run}/1.2x/model.onnx --against",
        ),
        (
            "bench {run}/1.2x",
            3,
            "{run}/1.2x: has no model.onnx yet",
            "make it with: pruneaug export {run}/1.2x",
        ),
        (
            "bench model.onnx",
            2,
            "model.onnx: no model is given to compare it with",
            "--against DENSE.onnx; or name the folder of a run",
        ),
        ("choose {run} 999", 3, "front.json: trial 999 is not on the front", "its trials, fastest"),
        (
            "choose {run}/none 1",
            3,
            "{run}/none: no such run",
            "--task TASK --platform PLATFORM --run",
        ),
    ],
)
def test_what_a_family_cannot_do_is_refused(searched, recipe, invoke, words, code, message, hint):
    places = {"recipe": recipe, "run": searched}
    outcome = invoke(*words.format(**places).split())
    assert outcome.code == code, outcome.err
    error, *rest = [
        line for line in outcome.err.splitlines() if line.startswith(("pruneaug: ", "  hint"))
    ]
    assert message.format(**places) in error
    if hint is not None:
        assert hint.format(**places) in rest[0]


def test_a_goal_without_an_answer_is_named_and_the_others_keep_theirs(
    family, invoke, recipe, monkeypatch
):
    """On this easy task every plan keeps every drop, so the refusal of one is put in."""

    def without_the_second(*arguments, **settings):
        first, _ = run_family(*arguments, **settings)
        return first, BudgetError("none of 8 plans evaluated loses 0 or less", hint="more trials")

    monkeypatch.setattr("pruneaug_cli.app.search.run_family", without_the_second)
    outcome = invoke("search", "--recipe", recipe, "--run", family, "--json")
    assert outcome.code == 6
    assert [entry["name"] for entry in json.loads(outcome.out)["unanswered"]] == ["1.6x"]
    assert "error: goal 1.6x: none of 8 plans evaluated loses 0 or less" in outcome.err
    assert f"hint: more trials; the others have their plans: {family / '1.2x'}" in outcome.err
    result = read(family / "result.json")
    assert [member["name"] for member in result["family"]] == ["1.2x"]
    assert [entry["name"] for entry in result["unanswered"]] == ["1.6x"]
    assert "Goal 1.6x: none of 8 plans" in invoke("report", family).out


class Machine:
    """Measures plans as so many times slower than predicted; trains and exports nothing."""

    def __init__(self, monkeypatch, *errors):
        self.errors, self.plans = list(errors), []
        monkeypatch.setattr(finish, "probe_speed", self.probe)
        monkeypatch.setattr(finish, "bench_run", self.bench)
        monkeypatch.setattr(finish, "export_run", lambda *_: None)
        monkeypatch.setattr(finish, "finetune_run", lambda run, *_: run.checkpoint.touch())

    def measure(self, run):
        document = run.read_result()
        latency_s = document["predicted_latency_s"] * self.errors[0]
        return {
            "sparse": {"latency_s": latency_s},
            "speedup": document["dense"]["latency_s"] / latency_s,
        }

    def probe(self, run, *_):
        self.plans.append(run.read_plan().plan)
        news = self.measure(run)
        self.errors[:-1] = self.errors[1:-1]
        return {**run.read_result(), **news}

    def bench(self, run, *_):
        return run.update_result(self.measure(run))


def finished(run: RunDirectory, recipe):
    from pruneaug_cli.app.prepared import prepare_recipe
    from pruneaug_cli.app.recipe_reader import read_recipe
    from pruneaug_cli.progress import silent

    own = read_recipe(recipe).members()[run.path.name]
    return finish.Finish(run, own, prepare_recipe(own), None, False, silent)()


def exactly_missing(run: RunDirectory) -> float:
    """An error by which the plan just misses its target."""
    document = run.read_result()
    return 1.01 * document["goal"]["target_latency_s"] / document["predicted_latency_s"]


def test_a_target_missed_as_measured_is_tightened_and_met(family, recipe, monkeypatch):
    run = RunDirectory.at(family / "1.2x")
    error = exactly_missing(run)
    machine = Machine(monkeypatch, error)
    document = finished(run, recipe)
    (step,) = document["tightened"]
    assert step["planned_latency_s"] == pytest.approx(step["predicted_latency_s"] / 1.01 * 0.99)
    assert document["predicted_latency_s"] <= step["planned_latency_s"]
    assert slowness(document) <= 1.0
    assert document["search"]["evaluations"] <= 2
    assert len(set(machine.plans)) == 2
    assert run.read_plan().plan == machine.plans[-1]


def test_a_target_that_keeps_being_missed_is_tightened_twice(family, recipe, monkeypatch):
    run = RunDirectory.at(family / "1.2x")
    error = exactly_missing(run)
    Machine(monkeypatch, error, error * 4.0, error * 16.0)
    document = finished(run, recipe)
    assert 1 <= len(document["tightened"]) <= 2
    assert slowness(document) > 1.0
    assert math.isfinite(document["tightened"][-1]["planned_latency_s"])


def test_a_target_out_of_reach_leaves_the_plan_there_was(family, recipe, monkeypatch):
    run = RunDirectory.at(family / "1.6x")
    plan = run.read_plan()
    Machine(monkeypatch, 1000.0)
    document = finished(run, recipe)
    assert "no plan is predicted to be" in document["tightened"][0]["reason"]
    assert run.read_plan() == plan
