"""The commands one after another on a small real model and real data."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pruneaug_cli.export import count_sparsity, read_model
from pruneaug_cli.files import digest_bytes
from pruneaug_cli.kernels.native.targets import host_machine
from pruneaug_cli.tasks import builtin_checkpoint, load_task

pytestmark = pytest.mark.xdist_group("whole-way")

SEARCH = ("search", "--task", "builtin:digits-mini", "--max-drop", "0.05", "--trials", "6")


@pytest.fixture(scope="module")
def recipe(mini_profile, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "recipe.yaml"
    path.write_text(
        "task: builtin:digits-mini\n"
        f"platform: {mini_profile}\n"
        "goal: {max_drop: 0.05}\n"
        "search: {trials: 6, recovery: 0}\n"
        "finetune: {epochs: 1}\n"
        "bench: {budget: 300ms}\n"
    )
    return path


@pytest.fixture(scope="module")
def run_dir(recipe, tmp_path_factory):
    from pruneaug_cli.app.requests import RunRequest
    from pruneaug_cli.app.run import run_run

    path = tmp_path_factory.mktemp("runs") / "mini"
    run_run(RunRequest(recipe, run_dir=path))
    return path


def test_one_recipe_goes_the_whole_way(run_dir):
    result = json.loads((run_dir / "result.json").read_text())
    assert result["speedup"] == pytest.approx(
        result["dense"]["latency_s"] / result["sparse"]["latency_s"]
    )
    assert result["dense"]["metric"] - result["sparse"]["metric"] <= 0.05
    assert "It is kept, as measured." in (run_dir / "report.html").read_text()
    assert result["sparse"]["size_bytes"] < result["dense"]["size_bytes"]
    assert result["export"]["max_abs_diff_library"] <= result["export"]["tolerance"]
    assert result["export"]["max_abs_diff_stock"] <= result["export"]["tolerance"]
    assert result["export"]["memory"].keys() == {"weights_bytes", "buffers_bytes"}
    assert all(node.keys() == {"op", "name", "reason"} for node in result["export"]["outside"])
    assert result["seconds"].keys() >= {"search", "finetune", "export", "bench"}
    assert "<html" in (run_dir / "report.html").read_text()


def test_the_sparsity_of_the_plan_is_in_the_file(run_dir):
    plan = json.loads((run_dir / "plan.json").read_text())["layers"]
    found = count_sparsity(run_dir / "model.onnx")
    assert found.keys() == plan.keys()
    for layer, choice in plan.items():
        asked = 0.0 if choice == "dense" else choice["sparsity"]
        # whole blocks: at most one block short of the fraction asked for
        assert asked - 0.1 <= found[layer] <= asked + 1e-9


def test_running_again_repeats_nothing_and_changes_nothing(run_dir, recipe, invoke):
    before = (run_dir / "checkpoint.safetensors").read_bytes()
    plan = (run_dir / "plan.json").read_bytes()
    outcome = invoke("run", recipe, "--run", run_dir, "--json")
    assert outcome.code == 0, outcome.err
    assert (run_dir / "checkpoint.safetensors").read_bytes() == before
    assert (run_dir / "plan.json").read_bytes() == plan
    assert "fine-tuning" not in outcome.err


@pytest.fixture
def copied(run_dir, tmp_path):
    return Path(shutil.copytree(run_dir, tmp_path / "copied"))


def test_what_was_exported_before_a_training_is_not_timed_as_what_is_there_now(copied, invoke):
    assert invoke("finetune", copied).code == 0
    outcome = invoke("bench", copied)
    assert outcome.code == 3
    assert "model.onnx: is of an earlier plan or training" in outcome.err
    assert f"hint: make it again with: pruneaug export {copied}" in outcome.err


def test_a_run_with_other_settings_of_the_training_trains_again(copied, recipe, invoke):
    before = json.loads((copied / "result.json").read_text())["finetune"]
    words = ("run", recipe, "--run", copied, "--set", "finetune.lr=0.01", "--json")
    outcome = invoke(*words)
    assert outcome.code in (0, 6), outcome.err  # so small a training may miss the drop
    result = json.loads((copied / "result.json").read_text())
    assert result["finetune"]["settings"] != before["settings"]
    # finalists are trained anew too, so that another of them may be the plan now
    one_shot = {one["trial"]: one["metric_before"] for one in result["search"]["finalists"]}
    assert result["finetune"]["metric_before"] == one_shot[result["search"]["chosen"]]


def test_who_was_killed_before_the_result_was_written_reports_no_other_plan(copied, recipe, invoke):
    kept = json.loads((copied / "result.json").read_text())
    plan = dict.fromkeys(kept["plan"], "dense")
    stale = {**kept, "plan": plan, "sparse": {**kept["sparse"], "metric": 0.123}}
    (copied / "result.json").write_text(json.dumps(stale))
    outcome = invoke("search", "--recipe", recipe, "--run", copied, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    chosen = {trial["number"]: trial for trial in result["search"]["trials"]}
    assert result["sparse"] == {"metric": chosen[result["search"]["chosen"]]["metric"]}
    assert "speedup" not in result


def test_the_prices_of_a_study_stay_with_it(copied, mini_profile, invoke, tmp_path):
    profile = json.loads(mini_profile.read_text())
    for measurement in profile["measurements"]:
        measurement["latency_s"] *= 1.0 + measurement["sparsity"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(profile))
    kept = (copied / "profile.json").read_bytes()
    words = (*SEARCH, "--run", copied, "--set", "search.recovery=0")
    invoke(*words, "--platform", other, "--dry-run")
    assert (copied / "profile.json").read_bytes() == kept
    outcome = invoke(*words, "--platform", other)
    assert outcome.code == 3
    assert "its prices: --platform RUN/profile.json" in outcome.err
    assert (copied / "profile.json").read_bytes() == kept
    recipe = copied / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(mini_profile), "profiled-anew"))
    point = json.loads((copied / "front.json").read_text())["front"][0]
    chosen = invoke("choose", copied, str(point["trial"]), "--json")
    assert chosen.code == 0, chosen.err
    assert json.loads(chosen.out)["predicted_latency_s"] == point["predicted_latency_s"]


def test_without_data_to_train_on_the_floor_stays_where_it_was_set(mini_profile, invoke, tmp_path):
    task = tmp_path / "untrained.py"
    task.write_text(
        "from pruneaug_cli.tasks.builtin.digits_task import digits_mini\n"
        "mini = digits_mini()\n"
        "build_model, example_inputs = mini.build_model, mini.example_inputs\n"
        "evaluate, calibration_batches = mini.evaluate, mini.calibration_batches\n"
    )
    run, weights = tmp_path / "run", tmp_path / "weights.safetensors"
    weights.write_bytes(builtin_checkpoint(load_task("builtin:digits-mini")).read_bytes())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"task: {task}\ncheckpoint: {weights}\nplatform: {mini_profile}\n"
        "goal: {max_drop: 0.05}\nsearch: {trials: 3}\nbench: {budget: 300ms}\n"
    )
    outcome = invoke("run", recipe, "--run", run, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["search"]["max_drop"] == 0.05  # not 0.1: no training will win anything back
    assert "finetune" not in result
    assert not result["trainable"]
    assert "pruneaug finetune" not in outcome.err


def test_the_cautious_search_of_a_known_study_evaluates_nothing(mini_profile, invoke, tmp_path):
    run = tmp_path / "luck"
    words = ("search", "--task", "builtin:digits-mini", "--platform", mini_profile, "--run", run)
    words = (*words, "--max-drop", "0.1", "--trials", "8", "--set", "finetune.epochs=0", "--json")
    bold, careful = invoke(*words), invoke(*words, "--cautious")
    assert bold.code == careful.code == 0, bold.err + careful.err
    found, kept = json.loads(bold.out), json.loads(careful.out)
    assert (found["search"]["cautious"], kept["search"]["cautious"]) == (False, True)
    assert kept["search"]["evaluations"] == 0
    assert kept["expected_drop"] <= 0.1
    assert kept["predicted_latency_s"] >= found["predicted_latency_s"]
    assert all(point["expected_drop"] is not None for point in kept["front"])


def test_each_step_can_be_run_alone(mini_profile, invoke, tmp_path):
    run = tmp_path / "alone"
    steps = [
        (*SEARCH, "--platform", mini_profile, "--run", run, "--set", "finetune.epochs=1"),
        ("finetune", run),
        ("export", run),
        ("report", run),
    ]
    for step in steps:
        outcome = invoke(*step, "--json")
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out)["schema_version"] == 1
    trained = json.loads((run / "result.json").read_text())["sparse"]
    again = invoke(*steps[0], "--json")
    assert json.loads(again.out)["sparse"] == trained
    bench = invoke("bench", run / "model.onnx", "--against", run / "model.dense.onnx", "--json")
    assert bench.code == 0, bench.err
    assert json.loads(bench.out)["batch"] == 1  # recorded in the file
    prediction = json.loads(bench.out)["prediction"]
    assert prediction["predicted_latency_s"] == json.loads(again.out)["predicted_latency_s"]
    assert prediction["latency_s"] > 0.0
    models = json.loads(bench.out)["models"]
    assert [model["library"] for model in models] == [True, False]
    memory = json.loads((run / "result.json").read_text())["export"]["memory"]
    assert memory.items() <= models[0].items()
    assert models[1]["weights_bytes"] is models[1]["buffers_bytes"] is None


def test_a_file_for_another_machine_has_the_library_of_both(run_dir, invoke, tmp_path):
    """Checked with the library of this machine; that of the target stands in the file too."""
    foreign = "x86-64" if host_machine() == "aarch64" else "aarch64-linux-gnu"
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    outcome = invoke("export", run, "--target", foreign, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    library, shipped = result["files"]["library"], result["files"]["target_library"]
    assert result["export"]["target"] == foreign
    assert result["export"]["library"] == shipped
    assert shipped.startswith(f"pruneaug_ops-{foreign}-")
    assert library != shipped
    for name in (library, shipped):
        assert (run / name).is_file()
    metadata = read_model(run / "model.onnx").metadata
    assert (metadata["target"], metadata["target_library"]) == (foreign, shipped)
    assert metadata["target_library_digest"] == digest_bytes((run / shipped).read_bytes())


def test_a_file_for_any_processor_of_this_kind_runs_here_as_it_is(run_dir, invoke, tmp_path):
    if host_machine() != "x86_64":
        pytest.skip(f"x86-64 runs on x86_64, this is {host_machine()}")
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    outcome = invoke("export", run, "--target", "x86-64", "--json")
    assert outcome.code == 0, outcome.err
    files = json.loads(outcome.out)["files"]
    assert files["library"] == files["target_library"]
    assert files["library"].startswith("pruneaug_ops-x86-64-")


def test_a_dry_run_shows_what_can_be_reached_and_spends_nothing(mini_profile, invoke, tmp_path):
    run = tmp_path / "dry"
    outcome = invoke(*SEARCH, "--platform", mini_profile, "--run", run, "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    known = json.loads(outcome.out)
    assert known["layers"] == 7
    assert known["max_speedup"] > 1.0
    assert known["space_after"] <= known["space_before"]
    assert known["targets"] == []
    assert not (run / "study.db").exists()


def test_a_dry_run_of_a_family_judges_every_target(mini_profile, invoke, tmp_path):
    words = ("search", "--task", "builtin:digits-mini", "--platform", mini_profile, "--dry-run")
    goal = ("--run", tmp_path / "dry", "--target-speedup", "1.1,1000,2000")
    outcome = invoke(*words, *goal, "--json")
    assert outcome.code == 0, outcome.err
    known = json.loads(outcome.out)
    judged = {target["name"]: target["satisfiable"] for target in known["targets"]}
    assert judged == {"1.1x": True, "1000x": False, "2000x": False}
    assert not known["satisfiable"]
    assert known["target_latency_s"] == pytest.approx(known["baseline_latency_s"] / 2000)
    out = invoke(*words, *goal).out
    assert "Targets that can be reached: 1.1x.\n" in out
    assert "Targets that cannot be reached, no plan is that fast: 1000x, 2000x.\n" in out

    drops = ("--run", tmp_path / "dry", "--target-speedup", "1000", "--max-drop", "0.01,0.02")
    known = json.loads(invoke(*words, *drops, "--json").out)
    assert (known["targets"], known["satisfiable"]) == ([], False)  # one target for all


def test_the_same_seed_gives_the_same_plan(mini_profile, invoke, tmp_path):
    plans = []
    for name in ("one", "two"):
        outcome = invoke(
            *SEARCH, "--platform", mini_profile, "--run", tmp_path / name, "--seed", "3", "--json"
        )
        assert outcome.code == 0, outcome.err
        plans.append(json.loads(outcome.out)["plan"])
    assert plans[0] == plans[1]


@pytest.mark.slow
def test_a_killed_search_loses_at_most_the_trial_in_flight(mini_profile, tmp_path):
    run = tmp_path / "killed"
    command = [
        sys.executable, "-m", "pruneaug_cli", *SEARCH, "--trials", "30",
        "--platform", str(mini_profile), "--run", str(run), "--json",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(  # noqa: S603 - our own program
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as victim:
        completed = _wait_for_trials(run / "study.db", 3)
        victim.send_signal(signal.SIGKILL)
    again = subprocess.run(  # noqa: S603 - our own program
        command, env=environment, capture_output=True, text=True, check=True
    )
    document = json.loads(again.stdout)
    assert document["trials"] == 30
    assert [trial["number"] for trial in document["search"]["trials"]][:completed] == list(
        range(completed)
    )


def _wait_for_trials(database: Path, count: int) -> int:
    """How many trials are complete, once there are at least ``count``."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if database.exists():
            try:
                with sqlite3.connect(database, timeout=1) as connection:
                    query = "select count(*) from trials where state = 'COMPLETE'"
                    (found,) = connection.execute(query).fetchone()
            except sqlite3.OperationalError:  # the study is just being made
                found = 0
            if found >= count:
                return int(found)
        time.sleep(0.02)
    pytest.fail("the search did not complete its trials in time")
