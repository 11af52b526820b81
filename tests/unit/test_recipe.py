"""Recipes: read, refused with their place, laid over, written back."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pruneaug_cli.app.durations import format_duration, parse_duration
from pruneaug_cli.app.layer_rules import LayerRule, LayerRules
from pruneaug_cli.app.recipe import Recipe, dump_recipe, json_schema
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.requests import SearchRequest
from pruneaug_cli.core.choice import DENSE, LayerChoice
from pruneaug_cli.core.shapes import BlockShape
from pruneaug_cli.errors import RecipeError, UsageError
from pruneaug_cli.files import dump_json
from pruneaug_cli.training.settings import FinetuneSettings

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a recipe in the current folder, so that messages begin with its bare name."""
    monkeypatch.chdir(tmp_path)

    def write_(text):
        path = Path("recipe.yaml")
        path.write_text(text, "utf-8")
        return path

    return write_


REFUSALS = [
    ("search: {trails: 3}", "recipe.yaml: search.trails: unknown key", "did you mean 'trials'?"),
    ("serach: {}", "recipe.yaml: serach: unknown key", "did you mean 'search'?"),
    (
        "export: {target: arm}",
        "recipe.yaml: export.target: unknown target 'arm'; known: native, x86-64, x86-64-v3",
        None,
    ),
    (
        "goal: {target_latency_s: 1}",
        "recipe.yaml: goal.target_latency_s: unknown key",
        "did you mean 'target_latency'?",
    ),
    (
        "layers: {names: {'fc*': {dens: true}}}",
        "recipe.yaml: layers.names.fc*.dens: unknown key",
        "did you mean 'dense'?",
    ),
    ("search: {trials: many}", "recipe.yaml: search.trials: expected an integer, got 'many'", None),
    ("search: {trials: yes}", "recipe.yaml: search.trials: expected an integer, got true", None),
    ("search: {trials: 0}", "recipe.yaml: search.trials: expected at least 1, got 0", None),
    ("search: 3", "recipe.yaml: search: expected a mapping of settings, got 3", None),
    ("search: null", "recipe.yaml: search: expected a mapping of settings, got null", None),
    ("search: {blocks: 8x1}", "recipe.yaml: search.blocks: expected a list, got '8x1'", None),
    (
        "search: {blocks: []}",
        "recipe.yaml: search.blocks: expected at least one entry, got a list",
        None,
    ),
    (
        "search: {blocks: [8x1, 8y]}",
        "recipe.yaml: search.blocks.1: expected ROWSxCOLS such as 8x1, got '8y'",
        None,
    ),
    (
        "search: {sparsities: [0.5, 1.0]}",
        "recipe.yaml: search.sparsities.1: expected less than 1.0, got 1.0",
        None,
    ),
    (
        "search: {sparsities: [0.0]}",
        "recipe.yaml: search.sparsities.0: expected more than 0.0, got 0.0",
        None,
    ),
    ("search: {ridge: .nan}", "recipe.yaml: search.ridge: expected a finite number, got nan", None),
    ("finetune: {momentum: 1.0}", "recipe.yaml: finetune.momentum: expected less than 1.0", None),
    ("schema_version: 2", "recipe.yaml: schema_version: expected 1, got 2", None),
    (
        "goal: {target_latency: 2}",
        (
            "recipe.yaml: goal.target_latency: "
            "expected a duration with its unit such as 2ms or 60s, got 2"
        ),
        None,
    ),
    (
        "goal: {target_latency: 2 parsecs}",
        (
            "recipe.yaml: goal.target_latency: "
            "expected a duration such as 2ms, 60s, 10min or 1h, got '2 parsecs'"
        ),
        None,
    ),
    (
        "goal: {target_latency: 2ms, target_speedup: 3}",
        "recipe.yaml: goal: target_latency and target_speedup exclude each other",
        None,
    ),
    ("goal: {max_drop: -1}", "recipe.yaml: goal.max_drop: expected at least 0.0, got -1", None),
    ("goal: {max_drop: []}", "recipe.yaml: goal.max_drop: expected at least one entry", None),
    (
        "goal: {max_drop: [0.01, -1]}",
        "recipe.yaml: goal.max_drop.1: expected at least 0.0, got -1",
        None,
    ),
    (
        "goal: {target_speedup: [2, 3, 2.0]}",
        "recipe.yaml: goal.target_speedup: 2 is given twice",
        None,
    ),
    (
        "goal: {target_latency: [2ms, 3]}",
        (
            "recipe.yaml: goal.target_latency.1: "
            "expected a duration with its unit such as 2ms or 60s, got 3"
        ),
        None,
    ),
    (
        "goal: {target_speedup: [2, 3], max_drop: [0.01, 0.02]}",
        (
            "recipe.yaml: goal: expected several values of one kind, "
            "got several of max_drop and target_speedup"
        ),
        None,
    ),
    (
        "layers: {types: {lstm: {dense: true}}}",
        "recipe.yaml: layers.types.lstm: expected 'conv' or 'linear', got 'lstm'",
        None,
    ),
    (
        "layers: {defaults: {min_sparsity: 0.5, max_sparsity: 0.2}}",
        "recipe.yaml: layers.defaults: min_sparsity 0.5 is above max_sparsity 0.2",
        None,
    ),
    (
        "layers: {defaults: {dense: true, blocks: [8x1]}}",
        "recipe.yaml: layers.defaults: a dense layer has no blocks and no sparsity to bound",
        None,
    ),
    ("- 1", "recipe.yaml: expected a mapping of settings, got a list", None),
    (
        "a: 1\nb: c: d",
        "recipe.yaml: line 2, column 5: not YAML: mapping values are not allowed here",
        None,
    ),
    ("seed: 1\nseed: 2", "recipe.yaml: line 2, column 1: not YAML: 'seed' is given twice", None),
    ("a: \x00", "recipe.yaml: not YAML: unacceptable character", None),
]


@pytest.mark.parametrize(("text", "message", "hint"), REFUSALS, ids=[case[0] for case in REFUSALS])
def test_a_bad_recipe_is_refused_with_its_place(write, text, message, hint):
    with pytest.raises(RecipeError) as refusal:
        read_recipe(write(text))
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
    assert refusal.value.hint == hint


def test_a_missing_file_is_refused():
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: no such recipe file"):
        read_recipe(Path("nowhere.yaml"))


def test_an_empty_recipe_is_the_defaults(write):
    assert read_recipe(write("")) == read_recipe(None) == Recipe()


def test_exponents_without_a_point_are_numbers(write):
    assert read_recipe(write("search: {ridge: 1e-3}")).search.ridge == 1e-3


def test_durations_become_seconds(write):
    recipe = read_recipe(write("goal: {target_latency: 2ms}\nprofile: {budget: 1.5min}"))
    assert (recipe.goal.target_latency_s, recipe.profile.budget_s) == (0.002, 90.0)


def test_settings_win_over_the_file_and_options_over_settings(write):
    path = write("seed: 1\nsearch: {trials: 1, workers: 2}\nplatform: a")
    recipe = read_recipe(
        path, settings=["search.trials=2", "seed=2"], overrides={"seed": 3, "search.timeout": 90.0}
    )
    assert (recipe.seed, recipe.search.trials, recipe.search.workers) == (3, 2, 2)
    assert (recipe.search.timeout_s, recipe.platform) == (90.0, "a")


def test_a_quoted_part_of_a_setting_may_contain_dots():
    recipe = read_recipe(None, settings=['layers.names."block1.*".dense=true'])
    assert recipe.layers.rules_for("block1.0.conv", "conv").dense is True


def test_a_target_on_the_command_line_replaces_the_other_kind(write):
    path = write("goal: {target_speedup: 3}")
    goal = read_recipe(path, overrides={"goal.target_latency": 0.002}).goal
    assert (goal.target_latency_s, goal.target_speedup) == (0.002, None)


@pytest.mark.parametrize(
    ("setting", "error", "message", "hint"),
    [
        ("search.trails=5", UsageError, "--set: search.trails: unknown key",
         "did you mean 'trials'?"),
        ("search.trials=x", UsageError, "--set: search.trials: expected an integer, got 'x'",
         None),
        ("search", UsageError, "--set search: expected key=value",
         "for example: --set search.trials=50"),
        ("=5", UsageError, "--set =5: expected key=value", "for example: --set search.trials=50"),
        ("seed=a: b: c", UsageError, "--set seed=a: b: c: the value is not YAML", None),
    ],
)  # fmt: skip
def test_a_bad_setting_is_refused(setting, error, message, hint):
    with pytest.raises(error) as refusal:
        read_recipe(None, settings=[setting])
    assert (str(refusal.value), refusal.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"goal.target_speedup": 0.5}, "goal.target_speedup: expected more than 1.0, got 0.5"),
        ({"goal.max_drop": -1.0}, "goal.max_drop: expected at least 0.0, got -1.0"),
        ({"seed": 99999999999}, "seed: expected less than 4294967296, got 99999999999"),
    ],
)
def test_a_bad_option_is_refused_as_one(write, overrides, message):
    with pytest.raises(UsageError) as refusal:
        read_recipe(write("task: t.py"), overrides=overrides)
    assert str(refusal.value) == f"options: {message}"
    assert refusal.value.hint == "see: pruneaug search --help"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("goal.max_drop=0.7", "expected a setting of finetune"),
        ("search.trials=77", "expected a setting of finetune"),
        ("seed=3", "expected a setting of finetune"),
        ("epochs", "expected key=value"),
    ],
)
def test_settings_of_other_sections_are_refused_where_one_is_read(setting, message):
    with pytest.raises(UsageError) as refusal:
        read_recipe(None, settings=["finetune.epochs=3", setting], section="finetune")
    assert str(refusal.value) == f"--set {setting}: {message}"
    assert (refusal.value.hint or "").startswith("for example: --set finetune.epochs=2")


def test_settings_of_the_section_that_is_read_are_taken():
    recipe = read_recipe(None, settings=["finetune.epochs=3"], section="finetune")
    assert recipe.finetune.epochs == 3


def test_every_option_of_a_search_has_its_place_in_the_recipe():
    request = SearchRequest(
        checkpoint=Path("w.pt"), task="t.py", platform="p", max_drop=0.02, target_latency_s=0.0015,
        strategy="tpe", trials=7, timeout_s=60.0, workers=2, engine="ray", seed=5,
    )  # fmt: skip
    recipe = read_recipe(None, overrides=request.overrides())
    assert (recipe.checkpoint, recipe.task, recipe.platform) == ("w.pt", "t.py", "p")
    assert (recipe.goal.max_drop, recipe.goal.target_latency_s) == (0.02, 0.0015)
    given = {"strategy": "tpe", "trials": 7, "timeout_s": 60.0, "workers": 2, "engine": "ray"}
    assert recipe.search.model_dump(include=set(given)) == given
    assert recipe.seed == 5


def test_a_missing_task_is_named_with_its_option():
    with pytest.raises(UsageError, match="no task is given") as refusal:
        Recipe().require("task")
    assert refusal.value.hint == "add --task TASK, or 'task: …' to the recipe"
    assert Recipe(platform="p").require("platform") == "p"


def test_a_recipe_reads_back_as_it_was_written(write):
    recipe = read_recipe(
        None,
        settings=[
            "search.blocks=[8x1, 4x4]", "goal.target_latency=1.5ms", "search.timeout=90s",
            "layers.names={z: {dense: true}, a: {max_sparsity: 0.5}}", "finetune.lr=1e-5",
        ],
    )  # fmt: skip
    text = dump_recipe(recipe)
    assert read_recipe(write(text)) == recipe
    assert text == dump_recipe(read_recipe(write(text)))
    assert list(yaml.safe_load(text)["layers"]["names"]) == ["z", "a"]


def test_finetune_mirrors_the_settings_of_training():
    mirrored = Recipe().finetune.model_dump()
    assert FinetuneSettings(**mirrored, seed=0) == FinetuneSettings(seed=0)
    limited = read_recipe(None, settings=["finetune.budget=2min"]).finetune.model_dump()
    assert FinetuneSettings(**limited).budget_s == 120.0
    assert {*mirrored, "seed"} == {field.name for field in dataclasses.fields(FinetuneSettings)}


# --- files we ship ---


def test_the_published_schema_is_the_one_of_the_code(refresh):
    path = RECIPES / "schema.json"
    if refresh:
        path.write_text(dump_json(json_schema()), "utf-8")
    assert json.loads(path.read_text("utf-8")) == json_schema()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_is_valid_and_says_what_it_is_for(path):
    recipe = read_recipe(path)
    assert recipe.platform is not None
    assert path.read_text("utf-8").startswith("# ")


def test_the_teaching_recipe_shows_the_defaults():
    recipe = read_recipe(RECIPES / "cnn-default.yaml")
    assert recipe.model_copy(update={"platform": None}) == Recipe()


# --- layer rules ---


def test_the_last_match_wins_field_by_field():
    rules = LayerRules(
        defaults=LayerRule(blocks=(BlockShape(8, 1),), max_sparsity=0.9),
        types={"linear": LayerRule(max_sparsity=0.5)},
        names={"fc*": LayerRule(min_sparsity=0.25), "fc2": LayerRule(max_sparsity=0.75)},
    )
    assert rules.rules_for("conv", "conv").max_sparsity == 0.9
    assert rules.rules_for("head", "linear").max_sparsity == 0.5
    rule = rules.rules_for("fc2", "linear")
    assert rule == LayerRule(blocks=(BlockShape(8, 1),), min_sparsity=0.25, max_sparsity=0.75)


def test_dense_drops_earlier_bounds_and_later_bounds_drop_dense():
    rules = LayerRules(
        defaults=LayerRule(max_sparsity=0.9),
        names={"a*": LayerRule(dense=True), "ab": LayerRule(max_sparsity=0.5)},
    )
    assert rules.rules_for("aa", "conv") == LayerRule(dense=True)
    assert rules.rules_for("ab", "conv") == LayerRule(max_sparsity=0.5)


def test_names_are_globs_and_case_matters():
    rules = LayerRules(names={"layer[12].*": LayerRule(dense=True)})
    assert rules.rules_for("layer1.conv", "conv").dense
    assert rules.rules_for("layer3.conv", "conv").dense is None
    assert rules.rules_for("Layer1.conv", "conv").dense is None


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (LayerRule(), [True, True, True]),
        (LayerRule(dense=True), [True, False, False]),
        (LayerRule(dense=False), [True, True, True]),
        (LayerRule(blocks=(BlockShape(8, 1),)), [True, True, False]),
        (LayerRule(min_sparsity=0.5), [True, True, True]),
        (LayerRule(min_sparsity=0.6), [True, False, True]),
        (LayerRule(max_sparsity=0.5), [True, True, False]),
        (LayerRule(max_sparsity=0.0), [True, False, False]),
    ],
)
def test_what_a_rule_allows(rule, allowed):
    choices = [DENSE, LayerChoice(BlockShape(8, 1), 0.5), LayerChoice(BlockShape(4, 4), 0.75)]
    assert [rule.allows(choice) for choice in choices] == allowed


# --- durations ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2ms", 0.002), ("60s", 60.0), (" .5 s ", 0.5), ("250us", 0.00025), ("10min", 600.0),
     ("1.5h", 5400.0)],
)  # fmt: skip
def test_a_duration_is_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "ms",
        "-1s",
        "1e3s",
        "2 days",
        "nan s",
        "0s",
        "inf",
        pytest.param("9" * 400 + "s", id="huge"),
    ],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_written_duration_reads_back_exactly(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("goal", "names"),
    [
        ("{target_speedup: [2, 3.5, 4]}", ["2x", "3.5x", "4x"]),
        ("{target_latency: [500us, 2ms]}", ["0.5ms", "2ms"]),
        ("{max_drop: [0.005, 0.01]}", ["drop-0.005", "drop-0.01"]),
        ("{max_drop: [0.02], target_speedup: 3}", []),
        ("{}", []),
    ],
)
def test_several_goals_of_a_kind_are_a_family(write, goal, names):
    recipe = read_recipe(write(f"goal: {goal}"))
    members = recipe.members()
    assert list(members) == names
    assert all(not member.members() for member in members.values())
    again = read_recipe(write(dump_recipe(recipe)))
    assert again == recipe


def test_each_member_has_its_own_goal_and_the_floor_of_all(write):
    members = read_recipe(write("goal: {max_drop: 0.02, target_speedup: [2, 3]}")).members()
    goals = [(goal.max_drop, goal.target_speedup) for goal in (m.goal for m in members.values())]
    assert goals == [(0.02, 2.0), (0.02, 3.0)]


def test_a_family_on_the_command_line_replaces_the_other_target(write):
    path = write("goal: {target_speedup: 3}")
    request = SearchRequest(target_latency_s=(0.001, 0.002))
    recipe = read_recipe(path, overrides=request.overrides())
    assert list(recipe.members()) == ["1ms", "2ms"]
