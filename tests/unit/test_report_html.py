"""The HTML report: one file, no network, escaped, the same bytes every time."""

import json
import re
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from pruneaug_cli.report.html import render_html
from pruneaug_cli.report.plan import plan_table
from pruneaug_cli.report.plots import latency_figure, pareto_figure, sparsity_figure
from pruneaug_cli.report.sensitivity import coefficient_figure, harm_figure

RESULT = json.loads((Path(__file__).parents[1] / "data" / "result.json").read_text("utf-8"))
HOSTILE = "<script>alert(1)</script>"


def _own_part(page: str) -> str:
    return page.replace(get_plotlyjs(), "")


def test_the_page_is_self_contained():
    page = render_html(RESULT)
    assert get_plotlyjs() in page
    assert not re.findall(r'(?:src|href)="', _own_part(page))


def test_the_same_result_gives_the_same_bytes():
    assert render_html(RESULT) == render_html(json.loads(json.dumps(RESULT)))


def test_the_page_holds_tables_and_plots():
    page = _own_part(render_html(RESULT))
    for piece in ('id="plot-pareto"', 'id="plot-latency"', 'id="plot-sparsity"', 'id="plot-harm"',
                  'id="plot-coefficients"', "0.9867", "Size of the search space", "10^12.3",
                  "Finalists", "after training", "0.9875", "Ended early, as hopeless: 1 of 4",
                  "ended early: 64 of 360 samples", "conv 64 64 3 3 16 16 1 1",
                  "grouped convolution", "Time spent"):  # fmt: skip
        assert piece in page


def test_names_are_escaped_in_tables_and_plots():
    document = json.loads(json.dumps(RESULT).replace("stage1.0.conv1", HOSTILE))
    document["task"] = HOSTILE
    document["search"]["trials"][0]["origin"] = HOSTILE
    page = _own_part(render_html(document))
    assert HOSTILE not in page
    assert "alert(1)" in page


@pytest.mark.parametrize("keys", [[], ["plan"], ["plan", "search", "layers"]])
def test_a_run_that_is_not_finished_has_a_page_too(keys):
    page = _own_part(render_html({"run": "runs/a"} | {key: RESULT[key] for key in keys}))
    assert "not run yet: pruneaug export runs/a" in page
    assert ('id="plot-pareto"' in page) == ("search" in keys)


def test_the_pareto_plot_shows_trials_front_chosen_uniform_and_dense_in_ms():
    figure = pareto_figure(RESULT)
    assert figure is not None
    traces = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert traces["trials"] == (pytest.approx([1.9, 1.8, 1.21]), [0.97, 0.985, 0.951])
    assert traces["ended early: estimates"] == (pytest.approx([1.1]), [0.62])
    assert traces["Pareto front"] == (pytest.approx([1.21, 1.8]), [0.951, 0.985])
    assert traces["chosen"] == (pytest.approx([1.21]), [0.951])
    assert traces["best uniform plan"] == (pytest.approx([1.9]), [0.97])
    assert traces["dense"] == (pytest.approx([4.1]), [0.99])
    assert traces["exported, measured"] == (pytest.approx([1.31]), [0.9876])
    assert next(iter(figure.data[0].text)) == "2.16×, trial 0, uniform 8x1"


@pytest.mark.parametrize(("higher", "floor"), [(True, 0.98), (False, 1.0)])
def test_the_allowed_loss_lies_on_the_bad_side(higher, floor):
    figure = pareto_figure({**RESULT, "higher_is_better": higher})
    assert figure is not None
    assert figure.layout.shapes[0].y0 == pytest.approx(floor)
    near = figure.layout.updatemenus[0].buttons[1].args[0]["yaxis.range"]
    assert min(near) < floor < max(near)


def test_the_floor_of_the_search_is_drawn_where_training_should_win_something():
    figure = pareto_figure(RESULT)
    assert figure is not None
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert texts == ["floor 0.9800", "floor before training 0.9500"]
    same = {**RESULT, "search": {**RESULT["search"], "max_drop": 0.01}}
    assert len(pareto_figure(same).layout.annotations) == 1


def test_a_target_is_a_line():
    goal = {"max_drop": None, "target_latency_s": 0.0013, "target_speedup": None}
    figure = pareto_figure(
        {**RESULT, "goal": goal, "search": {**RESULT["search"], "max_drop": None}}
    )
    assert figure is not None
    assert [shape.x0 for shape in figure.layout.shapes] == pytest.approx([1.3])
    assert figure.layout.annotations[0].text == "target 1.300 ms"
    assert not figure.layout.updatemenus


def test_a_family_has_all_its_plans_and_goals_in_the_plot():
    goals = ({"max_drop": 0.01}, {"max_drop": 0.01, "target_latency_s": 0.0013})
    family = [{"trial": number, "goal": goal} for number, goal in enumerate(goals, start=1)]
    document = {key: value for key, value in RESULT.items() if key not in ("goal", "sparse")}
    figure = pareto_figure({**document, "family": family})
    assert figure is not None
    traces = {trace.name: list(trace.x) for trace in figure.data}
    assert traces["chosen"] == pytest.approx([1.8, 1.21])
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert texts == ["floor 0.9800", "floor before training 0.9500", "target 1.300 ms"]


@pytest.mark.parametrize(("harm", "text"), [("output", "layer's output"), ("loss", "the loss")])
def test_harm_is_named_as_it_was_measured(harm, text):
    figure = harm_figure({**RESULT, "search": {**RESULT["search"], "harm": harm}})
    assert figure is not None
    assert text in figure.layout.yaxis.title.text


def test_the_result_of_a_chosen_trial_names_its_harm_without_a_search():
    chosen = {key: value for key, value in RESULT.items() if key != "search"}
    figure = harm_figure({**chosen, "harm": "loss"})
    assert figure is not None
    assert "rise of the loss" in figure.layout.yaxis.title.text
    assert "rise of the loss" in plan_table({**chosen, "harm": "loss"}).notes[0]


def test_a_plot_without_early_ends_does_not_speak_of_them():
    trials = [trial for trial in RESULT["search"]["trials"] if "samples" not in trial]
    figure = pareto_figure({**RESULT, "search": {**RESULT["search"], "trials": trials}})
    assert figure is not None
    assert "ended early: estimates" not in [trace.name for trace in figure.data]


def test_trials_without_a_metric_are_left_out_of_the_plot():
    trials = [{**trial, "metric": None} for trial in RESULT["search"]["trials"]]
    assert pareto_figure({**RESULT, "search": {**RESULT["search"], "trials": trials}}) is None


def test_layers_and_the_rest_are_drawn_with_their_share_of_the_network():
    figure = latency_figure(RESULT)
    assert figure is not None
    dense, chosen = figure.data
    assert list(dense.x) == ["stem", "stage1.0.conv1", "fc", "rest of the network"]
    assert list(dense.y) == pytest.approx([400.0, 3000.0, 10.0, 100.0])
    assert list(chosen.y) == pytest.approx([200.0, 900.0, 10.0, 100.0])
    assert list(dense.text) == ["11.4%", "85.5%", "0.3%", "2.8%"]
    assert list(chosen.text) == ["16.5%", "74.4%", "0.8%", "8.3%"]


@pytest.mark.parametrize("predicted", [None, 0.0011])
def test_a_rest_that_is_unknown_or_negative_has_no_bar(predicted):
    figure = latency_figure({**RESULT, "predicted_latency_s": predicted})
    assert figure is not None
    assert list(figure.data[0].x) == ["stem", "stage1.0.conv1", "fc"]


def test_harm_is_drawn_against_sparsity_per_block_and_layer_with_the_choice_marked():
    figure = harm_figure(RESULT)
    assert figure is not None
    assert [title.text for title in figure.layout.annotations] == ["block 8x1", "block 16x1"]
    lines = {(t.name, t.xaxis): (list(t.x), list(t.y)) for t in figure.data if t.mode != "markers"}
    assert lines == {  # a harm of 0 has no logarithm
        ("stem", "x"): ([50.0], [0.0021]),
        ("stem", "x2"): ([30.0, 50.0], [0.0019, 0.008]),
        ("stage1.0.conv1", "x2"): ([50.0, 75.0], [0.004, 0.0123]),
    }
    chosen = {t.xaxis: (list(t.x), list(t.y)) for t in figure.data if t.name == "chosen"}
    assert chosen == {"x": ([50.0], [0.0021]), "x2": ([75.0], [0.0123])}
    assert [t.name for t in figure.data if t.showlegend] == ["stem", "stage1.0.conv1", "chosen"]


def test_coefficients_are_drawn_with_what_is_known_of_them():
    figure = coefficient_figure(RESULT)
    assert figure is not None
    (trace,) = figure.data
    assert (list(trace.x), list(trace.y)) == (["stem", "stage1.0.conv1"], [1.7, 0.6])
    assert list(trace.error_y.array) == pytest.approx([0.8, 0.3])
    assert list(trace.error_y.arrayminus) == pytest.approx([0.5, 0.2])


def test_results_of_earlier_versions_have_no_plots_of_what_they_do_not_know():
    new = ("options", "coefficient")
    layers = [{k: v for k, v in layer.items() if k not in new} for layer in RESULT["layers"]]
    document = {**RESULT, "layers": layers}
    assert (harm_figure(document), coefficient_figure(document)) == (None, None)
    assert 'id="plot-harm"' not in _own_part(render_html(document))


def test_every_plot_has_a_name_and_its_axes_have_units():
    for make in (pareto_figure, latency_figure, sparsity_figure, harm_figure, coefficient_figure):
        figure = make(RESULT)
        assert figure is not None
        assert figure.layout.title.text
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
    page = _own_part(render_html(RESULT))
    assert page.count("<figure aria-label=") == 5


def test_sparsity_is_drawn_as_planned_and_as_counted():
    figure = sparsity_figure(RESULT)
    assert figure is not None
    planned, counted = figure.data
    assert list(planned.x) == list(counted.x) == ["stem", "stage1.0.conv1", "fc"]
    assert list(planned.y) == list(counted.y) == pytest.approx([50.0, 75.0, 0.0])
