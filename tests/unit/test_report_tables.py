"""Tables: one set of raw values, four renderings, and nothing invented where a value is missing."""

import io
import json
import re
from pathlib import Path

import pytest

from pruneaug_cli.report.finalists import finalists_tables
from pruneaug_cli.report.outside import outside_tables
from pruneaug_cli.report.plan import plan_table
from pruneaug_cli.report.prediction import prediction_note
from pruneaug_cli.report.run import run_view
from pruneaug_cli.report.space import space_tables
from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.terminal import print_tables, to_text
from pruneaug_cli.report.units import ratio, show

RESULT = json.loads((Path(__file__).parents[1] / "data" / "result.json").read_text("utf-8"))
HOSTILE = "<b>|x|</b> [red]`y`_z_*"


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("text", "8x1", "8x1"),
        ("count", 12345, "12,345"),
        ("metric", 0.98765, "0.9877"),
        ("harm", 0.01234, "0.0123"),
        ("ms", 0.0012345, "1.234"),
        ("ms", 2.034e-5, "0.02034"),
        ("us", 0.0012345, "1,234.5"),
        ("more_us", -2e-6, "-2.0"),
        ("percent", 0.875, "87.5%"),
        ("more_percent", 0.012, "+1.2%"),
        ("times", 3.129, "3.13×"),
        ("mb", 1_250_000, "1.250"),
        ("difference", 1.94e-6, "1.9e-06"),
    ],
)
def test_units_are_converted_for_people(kind, value, shown):
    assert show(kind, value) == shown


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["count", "metric", "harm", "ms", "percent", "times", "mb"])
def test_a_missing_value_is_a_dash(kind, value):
    assert show(kind, value) == "–"


@pytest.mark.parametrize(
    ("above", "below"), [(1.0, 0.0), (None, 1.0), (1.0, None), (float("nan"), 1.0), ("1", 1.0)]
)
def test_a_ratio_without_two_numbers_is_missing(above, below):
    assert ratio(above, below) is None


def test_json_keeps_raw_values_and_has_no_nan():
    columns = (Column("a", "a", "ms"), Column("b", "b", "ms"), Column("c", "c"))
    table = Table("t", columns, ({"a": 0.00125, "b": float("nan")},), ("note",))
    assert table.to_json() == {
        "title": "t",
        "rows": [{"a": 0.00125, "b": None, "c": None}],
        "notes": ["note"],
    }


def test_markdown_escapes_what_would_be_markup():
    table = Table(HOSTILE, (Column("a", "a"),), ({"a": HOSTILE},))
    escaped = r"&lt;b&gt;\|x\|&lt;/b&gt; \[red\]\`y\`\_z\_\*"
    assert table.to_markdown() == f"**{escaped}**\n\n| a |\n| --- |\n| {escaped} |\n"


def test_html_escapes_everything():
    table = Table(HOSTILE, (Column("a", HOSTILE),), ({"a": HOSTILE},), (HOSTILE,))
    assert "<b>" not in table.to_html()
    assert table.to_html().count("&lt;b&gt;") == 4


def test_text_shows_names_as_they_are():
    table = Table(HOSTILE, (Column("a", HOSTILE),), ({"a": HOSTILE},), (HOSTILE,))
    assert to_text([table]).count(HOSTILE) == 4


def test_a_terminal_gets_colour_and_a_pipe_does_not(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    table = Table("title", (Column("a", "a"),), ({"a": "b"},))
    stream = Terminal()
    print_tables([table], stream)
    assert "\x1b[" in stream.getvalue()
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" not in to_text([table])


def test_markdown_of_a_run(golden):
    golden("report/run.md", "\n".join(table.to_markdown() for table in run_view(RESULT)))


STEPS = [
    "not run yet: pruneaug search CHECKPOINT --task TASK --platform PLATFORM --run 'my run'",
    "not run yet: pruneaug finetune 'my run'",
    "not run yet: pruneaug export 'my run'",
    "not run yet: pruneaug bench 'my run'",
]


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ([], STEPS),
        (["plan"], STEPS[1:]),
        (["plan", "finetune"], STEPS[2:]),
        (["plan", "finetune", "export"], STEPS[3:]),
        (["plan", "finetune", "export", "speedup"], []),
    ],
)
def test_a_step_that_has_not_run_is_named_with_its_command(keys, missing):
    document = {"schema_version": 1, "run": "my run"} | {key: RESULT[key] for key in keys}
    notes = run_view(document)[0].notes
    assert [note for note in notes if note.startswith("not run yet")] == missing


def test_a_run_that_has_only_begun_shows_dashes(golden):
    golden("report/begun.txt", to_text(run_view({"schema_version": 1, "run": "runs/a"})))


def test_a_plan_without_details_still_shows_every_layer():
    table = run_view({"plan": RESULT["plan"]})[1]
    assert [row["name"] for row in table.rows] == ["fc", "stage1.0.conv1", "stem"]
    assert table.cells()[0][1:4] == ["–", "dense", "–"]
    assert table.cells()[1][2] == "16x1 @ 75%"


def test_the_runner_up_is_shown_with_what_it_would_have_cost():
    cells = {row[0]: row[-3:] for row in plan_table(RESULT).cells()}
    assert cells["stem"] == ["16x1 @ 30%", "+62.0", "+5.1%"]
    assert cells["stage1.0.conv1"] == ["dense", "+2,100.0", "+173.6%"]
    assert cells["fc"] == ["–", "–", "–"]


@pytest.mark.parametrize(
    ("predicted", "measured", "note"),
    [
        (0.00121, 0.00131, "Latency model: predicted 1.210 ms, measured 1.310 ms, error -7.6%."),
        (2e-5, 1.6e-5, "Latency model: predicted 0.02000 ms, measured 0.01600 ms, error +25.0%."),
        (None, 0.001, ""),
        (0.001, None, ""),
        (float("nan"), 0.001, ""),
    ],
)
def test_the_latency_model_is_held_to_what_was_measured(predicted, measured, note):
    assert prediction_note(predicted, measured) == note


def test_cuts_are_listed_with_what_they_leave():
    (table,) = space_tables([*RESULT["space"], {"name": "later", "options": 3}])
    assert table.cells() == [
        ["every block and sparsity", "1,200", "300", "10^12.3"],
        ["dominated options removed", "31", "–", "10^4.0"],
        ["later", "3", "–", "–"],
    ]
    assert space_tables(()) == ()


@pytest.mark.parametrize(
    ("finalists", "note"),
    [
        (RESULT["search"]["finalists"], "the answer is the best of 2 that were"),
        ([], "the answer is the search's own"),
    ],
)
def test_finalists_that_there_was_no_time_for_are_told(finalists, note):
    search = {**RESULT["search"], "finalists": finalists, "finalists_untrained": True}
    tables = run_view({**RESULT, "search": search})
    assert (
        f"search.timeout was over before all finalists were trained: {note}. "
        "To train the others, search again in the same folder."
    ) in tables[0].notes
    assert ("Finalists" in [table.title for table in tables]) == bool(finalists)


def test_finalists_are_shown_with_their_metric_before_and_after_training():
    (table,) = finalists_tables(RESULT)
    assert table.cells() == [
        ["2", "1.210", "0.9510", "0.9840", "yes"],
        ["1", "1.800", "0.9850", "0.9875", "no"],
    ]
    assert finalists_tables({"search": {"trials": []}}) == finalists_tables({}) == ()


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        ({}, ""),
        ({"missed": []}, " It is kept, as measured."),
        ({"missed": ["the metric fell by 0.02, more than 0.01"]},
         " It is missed: the metric fell by 0.02, more than 0.01."),
    ],
)  # fmt: skip
def test_what_was_measured_is_held_to_the_goal(known, verdict):
    result, *_ = run_view({"goal": {"max_drop": 0.01}, **known})
    assert f"Goal: lose at most 0.0100.{verdict}" in result.notes


def test_what_a_plan_is_expected_to_lose_is_told_until_it_is_trained():
    note = (
        "By the divergence of its outputs the plan loses about 0.0170 on data "
        "like the search's; what validation shows beside that may be luck."
    )
    one_shot = {key: value for key, value in RESULT.items() if key != "finetune"}
    assert note in run_view({**one_shot, "expected_drop": 0.017})[0].notes
    assert note not in run_view({**RESULT, "finetune": {}, "expected_drop": 0.017})[0].notes
    assert not any("divergence" in note for note in run_view(one_shot)[0].notes)


@pytest.mark.parametrize(
    ("search", "advised"),
    [
        ({"max_drop": 0.01, "cautious": False}, True),
        ({"max_drop": 0.01, "cautious": True}, False),
        ({"max_drop": 0.02, "cautious": False}, False),
        ({"max_drop": None, "cautious": False}, False),
    ],
)
def test_who_keeps_the_drop_by_luck_is_told_of_the_cautious_search(search, advised):
    one_shot = {key: value for key, value in RESULT.items() if key != "finetune"}
    document = {**one_shot, "expected_drop": 0.017, "search": {**RESULT["search"], **search}}
    advice = "Search again in the same folder with --cautious to hold what is expected to the drop."
    assert any(note.endswith(advice) for note in run_view(document)[0].notes) == advised


def test_training_is_not_asked_for_where_the_task_has_no_data_for_it():
    one_shot = {key: value for key, value in RESULT.items() if key != "finetune"}
    step = "not run yet: pruneaug finetune"
    for trainable in (True, False):
        notes = run_view({**one_shot, "trainable": trainable})[0].notes
        assert any(note.startswith(step) for note in notes) == trainable


def test_trials_that_ended_early_are_counted_with_what_they_saw():
    note = "Ended early, as hopeless: 1 of 4 trials, which saw 64 of 360 samples."
    assert note in run_view(RESULT)[0].notes
    assert note in run_view({**RESULT, "family": []})[0].notes
    trials = [trial for trial in RESULT["search"]["trials"] if "samples" not in trial]
    text = to_text(run_view({**RESULT, "search": {**RESULT["search"], "trials": trials}}))
    assert "Ended early" not in text


@pytest.mark.parametrize(("plans", "which"), [(1, "One plan was"), (3, "3 plans were")])
def test_plans_without_a_metric_are_counted(plans, which):
    note = f"{which} left out: workers died of the evaluation, or the metric was no finite number."
    document = {**RESULT, "search": {**RESULT["search"], "left_out": plans}}
    assert note in run_view(document)[0].notes
    assert note in run_view({**document, "family": []})[0].notes
    assert "left out: workers died" not in to_text(run_view(RESULT))


def test_a_narrow_terminal_leaves_spare_columns_out_and_says_so(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    print_tables(run_view(RESULT), stream)
    text = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert "For want of width without: geometry, dense, share, speed-up, harm." in text
    stem = next(line for line in text.splitlines() if line.startswith("stem "))
    assert " ".join(stem.split()) == "stem 8x1 @ 50% 200.0 16x1 @ 30% +62.0 +5.1%"
    assert max(len(line) for line in text.splitlines() if line.startswith(("stem", "stage"))) <= 80
    assert "For want of width" not in to_text(run_view(RESULT))


def test_layers_come_in_the_order_of_the_model():
    assert [row["name"] for row in run_view(RESULT)[1].rows] == ["stem", "stage1.0.conv1", "fc"]


def test_values_that_are_not_numbers_are_dashes_everywhere():
    nan = float("nan")
    layers = [{**layer, "latency_s": nan, "harm": nan} for layer in RESULT["layers"]]
    document = {
        **RESULT, "layers": layers, "dense": {"metric": nan, "latency_s": nan},
        "sparse": {"metric": nan, "latency_s": nan}, "speedup": nan, "predicted_latency_s": nan,
    }  # fmt: skip
    text = to_text(run_view(document))
    assert "nan" not in text
    assert "Change of the metric" not in text


def test_nodes_outside_are_counted_by_operator_and_reason():
    node = {"op": "Mul", "name": "a", "reason": "one"}
    (table,) = outside_tables([node, {**node, "reason": "other"}, {**node, "name": "b"}])
    assert table.cells() == [["Mul", "2", "one"], ["Mul", "1", "other"]]
    assert outside_tables([]) == ()


def test_nodes_outside_as_the_first_version_wrote_them_are_no_table():
    assert outside_tables(["Softmax node_3: Softmax has no kernel"]) == ()
