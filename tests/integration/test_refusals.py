"""Bad input, through the real commands: one line, a hint, the right exit code."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruneaug_cli.tasks import builtin_checkpoint, load_task

pytestmark = pytest.mark.xdist_group("whole-way")

MINI = "builtin:digits-mini"
SMALL_TASK = """
import torch
from torch import nn

def build_model():
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))

def example_inputs():
    return torch.zeros(1, 1, 8, 8)
"""


@pytest.fixture
def small_task(tmp_path):
    path = tmp_path / "task.py"
    path.write_text(SMALL_TASK)
    namespace: dict[str, object] = {}
    exec(SMALL_TASK, namespace)  # noqa: S102 - our own text
    model = namespace["build_model"]()  # type: ignore[operator]
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return path


def refused(outcome, code: int, message: str, hint: str | None = None) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "collecting evidence" not in outcome.err  # refused before anything is spent
    lines = [line for line in outcome.err.splitlines() if line.startswith(("pruneaug: ", "  hint"))]
    assert lines[0].startswith("pruneaug: error: ")
    assert message in lines[0]
    if hint is not None:
        assert lines[1].startswith("  hint: ")
        assert hint in lines[1]


@pytest.mark.parametrize(
    ("has", "lacks"),
    [("", "evaluate"), ("def evaluate(model, device): return 0.5\n", "calibration_batches")],
)
def test_a_missing_task_function_is_named_when_it_is_needed(
    small_task, mini_profile, invoke, tmp_path, has, lacks
):
    small_task.write_text(f"{SMALL_TASK}{has}")
    outcome = invoke(
        "search", tmp_path / "weights.safetensors", "--task", small_task,
        "--platform", small_profile(mini_profile, tmp_path), "--run", tmp_path / "run",
    )  # fmt: skip
    refused(outcome, 3, f"task.py: no function {lacks}, which", f"def {lacks}")


def small_profile(mini_profile: Path, tmp_path: Path) -> Path:
    """The profile with the small task's layers and network in it, borrowed from others."""
    from pruneaug_cli.app.prepared import prepare

    document = json.loads(mini_profile.read_text())
    prepared = prepare(str(tmp_path / "task.py"), None)
    rows = [r for r in document["measurements"] if r["geometry"].startswith("linear")]
    for layer in prepared.layers:
        geometry = str(layer.geometry)
        document["measurements"] += [{**row, "geometry": geometry} for row in rows]
    document["networks"][0]["digest"] = prepared.network_digest()
    path = tmp_path / "small.json"
    path.write_text(json.dumps(document))
    return path


def test_a_checkpoint_of_another_architecture_is_refused(small_task, mini_profile, invoke):
    other = builtin_checkpoint(load_task(MINI))
    outcome = invoke("search", other, "--task", small_task, "--platform", mini_profile)
    refused(outcome, 3, "digits_mini.safetensors: does not fit the model")
    assert "missing (0.bias, 0.weight" in outcome.err or "missing (0.weight" in outcome.err


def test_a_truncated_checkpoint_is_refused(mini_profile, invoke, tmp_path):
    whole = builtin_checkpoint(load_task(MINI)).read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: len(whole) // 2])
    outcome = invoke("search", cut, "--task", MINI, "--platform", mini_profile)
    refused(outcome, 3, "cut.safetensors: truncated or damaged")


def test_a_pickled_module_needs_trust(small_task, mini_profile, invoke, tmp_path):
    pickled = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 2), pickled)
    outcome = invoke("search", pickled, "--task", small_task, "--platform", mini_profile)
    refused(outcome, 3, "model.pt: holds a pickled object", "--trust-checkpoint")


def test_a_profile_of_another_version_is_refused(mini_profile, invoke, tmp_path):
    document = json.loads(mini_profile.read_text())
    old = tmp_path / "old.json"
    old.write_text(json.dumps({**document, "schema_version": 7}))
    outcome = invoke("search", "--task", MINI, "--platform", old, "--run", tmp_path / "run")
    refused(outcome, 3, "old.json: profile schema 7 is not the supported 2", "pruneaug profile")


def test_an_unknown_recipe_key_names_the_nearest(invoke, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("search: {trails: 50}\n")
    outcome = invoke("run", recipe)
    refused(outcome, 3, "recipe.yaml: search.trails: unknown key", "did you mean 'trials'?")


def test_a_block_the_platform_does_not_serve_is_refused(mini_profile, invoke, tmp_path):
    outcome = invoke(
        "search", "--task", MINI, "--platform", mini_profile, "--run", tmp_path / "run",
        "--set", "search.blocks=[2x2]",
    )  # fmt: skip
    refused(
        outcome, 4, "profile 'here' has no measurement of 2x2 blocks on conv 16 1 3 3",
        "pruneaug profile --task TASK --platform here --block 2x2",
    )  # fmt: skip


def test_a_rule_for_no_layer_is_refused(invoke, tmp_path):
    outcome = invoke(
        "search", "--task", MINI, "--platform", "any", "--run", tmp_path / "run",
        "--set", "layers.names={fcc: {dense: true}}",
    )  # fmt: skip
    refused(
        outcome, 3, "layers.names: 'fcc' matches no layer of builtin:digits-mini",
        "did you mean 'fc'?",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "message", "unit"),
    [
        (
            ("--target-latency", "1us"),
            "no plan is predicted to take 0.001 ms or less",
            " ms or more",
        ),
        (
            ("--target-speedup", "1000"),
            "no plan is predicted to be 1000 times as fast as the dense model",
            " or less",
        ),
    ],
)
def test_an_unreachable_target_says_what_can_be_reached(
    mini_profile, invoke, tmp_path, asked, message, unit
):
    words = (
        "search", "--task", MINI, "--platform", mini_profile, "--run", tmp_path / "run",
        "--dry-run", "--json",
    )  # fmt: skip
    outcome = invoke(*words[:-2], *asked)
    refused(outcome, 6, f"{message} with a margin of 5%: the fastest", "ask for")
    (least,) = re.findall(rf"ask for (\S+){unit}", outcome.err)
    follows = least if "--target-speedup" in asked else f"{least}ms"
    assert json.loads(invoke(*words, asked[0], follows).out)["satisfiable"]


def test_a_search_of_which_nothing_may_be_pruned_is_refused(mini_profile, invoke, tmp_path):
    outcome = invoke(
        "search", "--task", MINI, "--platform", mini_profile, "--run", tmp_path / "run",
        "--set", "layers.defaults.dense=true",
    )  # fmt: skip
    refused(
        outcome, 6, "no layer has a choice besides staying dense after the cut 'layer rules'",
        "look at the recipe's layers",
    )  # fmt: skip


def test_a_refused_search_leaves_the_run_as_it_was(mini_profile, invoke, tmp_path):
    run = tmp_path / "run"
    words = ("search", "--task", MINI, "--platform", mini_profile, "--run", run, "--trials", "2")
    words = (*words, "--max-drop", "0.5", "--set", "finetune.epochs=0")
    assert invoke(*words).code == 0
    recipe = (run / "recipe.yaml").read_text()
    refused(invoke(*words, "--seed", "7"), 2, "was made with seed 0, not 7", "continue with seed 0")
    assert (run / "recipe.yaml").read_text() == recipe
    outcome = invoke(*words, "--set", "search.criterion=magnitude")
    refused(
        outcome, 2, "made with search.criterion 'obs', not 'magnitude'", "use another run directory"
    )
    trial = json.loads((run / "front.json").read_text())["front"][0]["trial"]
    assert invoke("choose", run, str(trial)).code == 0


def test_a_study_of_another_checkpoint_is_refused_before_anything_is_spent(
    mini_profile, invoke, tmp_path
):
    run, other = tmp_path / "run", tmp_path / "other.safetensors"
    weights = load_file(builtin_checkpoint(load_task(MINI)))
    words = ("--task", MINI, "--platform", mini_profile, "--run", run, "--trials", "2")
    words = (*words, "--max-drop", "0.5")
    assert invoke("search", *words).code == 0
    save_file({**weights, "fc.weight": 0.99 * weights["fc.weight"]}, other)
    refused(
        invoke("search", other, *words), 3, "is about the weights of another checkpoint",
        "use another run directory",
    )  # fmt: skip


def test_a_front_of_pruned_weights_that_were_replaced_is_refused(mini_profile, invoke, tmp_path):
    run = tmp_path / "run"
    words = ("search", "--task", MINI, "--platform", mini_profile, "--run", run, "--trials", "2")
    assert invoke(*words, "--max-drop", "0.5").code == 0
    front = json.loads((run / "front.json").read_text())
    (run / "front.json").write_text(json.dumps(front | {"database": "0" * 64}))
    refused(
        invoke("choose", run, str(front["front"][0]["trial"])), 3,
        "front.json: is about other pruned weights than", "search again as before",
    )  # fmt: skip


def test_an_unknown_platform_names_the_nearest(invoke, tmp_path):
    outcome = invoke("search", "--task", MINI, "--platform", "cascade-lake-avx512")
    refused(outcome, 3, "unknown profile 'cascade-lake-avx512'", "cascade-lake-avx512-1t")


def test_a_step_without_its_input_names_the_command_that_makes_it(invoke, tmp_path):
    outcome = invoke("export", tmp_path / "nothing")
    refused(outcome, 3, "nothing: no such run", "pruneaug search")


def test_an_unknown_target_names_those_there_are(invoke, tmp_path):
    outcome = invoke("export", tmp_path / "nothing", "--target", "riscv64")
    known = "known: native, x86-64, x86-64-v3, x86-64-v4, aarch64-linux-gnu"
    refused(outcome, 4, "unknown target 'riscv64'", known)


def test_an_unknown_strategy_names_the_nearest(mini_profile, invoke, tmp_path):
    outcome = invoke(
        "search", "--task", MINI, "--platform", mini_profile, "--run", tmp_path / "run",
        "--strategy", "knapsak",
    )  # fmt: skip
    refused(outcome, 4, "unknown search strategy 'knapsak'", "did you mean 'knapsack'?")


def test_an_unknown_criterion_names_the_nearest(mini_profile, invoke, tmp_path):
    outcome = invoke(
        "search", "--task", MINI, "--platform", mini_profile, "--run", tmp_path / "run",
        "--set", "search.criterion=magnitud",
    )  # fmt: skip
    refused(outcome, 4, "unknown criterion 'magnitud'", "did you mean 'magnitude'?")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("--workers", "0"),
            2,
            "invalid value for '--workers': Input should be greater than or equal to 1",
        ),
        (("--engine", "proceses"), 4, "unknown engine 'proceses'"),
        (("--storage", "study.db"), 3, "study.db: cannot be used as a study"),
        (("--storage", "postgresql://me:secret@localhost:1/x"), 3, "postgresql://me:***@local"),
    ],
    ids=["workers", "engine", "no-url", "nobody-listens"],
)
def test_a_search_that_cannot_be_recorded_or_run_is_refused_before_anything_is_spent(
    mini_profile, invoke, tmp_path, words, code, message
):
    if "postgresql" in words[1]:
        pytest.importorskip("psycopg")
    run = tmp_path / "refused"
    outcome = invoke(
        "search", "--task", "builtin:digits-mini", "--platform", mini_profile, "--run", run, *words
    )
    refused(outcome, code, message)
    assert not (run / "database").exists()


@pytest.mark.parametrize(
    ("functions", "message", "hint"),
    [
        (
            "def build_model():\n    return missing_net()\n",
            "task.py: build_model() failed at task.py:15: NameError: name 'missing_net' is not",
            None,
        ),
        (
            "def evaluate(model, device):\n    raise ValueError('my data\\nare gone')\n",
            "task.py: evaluate() failed at task.py:15: ValueError: my data",
            None,
        ),
        (
            "def calibration_batches():\n    yield torch.zeros(4, 1, 6, 6)\n",
            "calibration_batches() gave inputs (4, 1, 6, 6), which the model cannot run: Runtime",
            "they must be inputs like those of example_inputs()",
        ),
    ],
    ids=["build-model", "evaluate", "calibration-batches"],
)
def test_a_task_function_that_fails_is_named(
    small_task, mini_profile, invoke, tmp_path, functions, message, hint
):
    profile = small_profile(mini_profile, tmp_path)
    evaluate = "def evaluate(model, device):\n    return 0.5\n"
    calibration = "def calibration_batches():\n    return [example_inputs()]\n"
    # of two functions of a name the later one counts
    small_task.write_text(f"{SMALL_TASK}{evaluate}{calibration}{functions}")
    outcome = invoke(
        "search", tmp_path / "weights.safetensors", "--task", small_task,
        "--platform", profile, "--run", tmp_path / "run",
    )  # fmt: skip
    refused(outcome, 3, message, hint)
    assert "Traceback" not in outcome.err
