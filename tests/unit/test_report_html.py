"""The HTML report: one file, no network, escaped, the same bytes every time."""

import json
import re
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from pruneaug_cli.report.html import render_html
from pruneaug_cli.report.plots import latency_figure, pareto_figure, sparsity_figure

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
    for piece in ('id="plot-pareto"', 'id="plot-latency"', 'id="plot-sparsity"', "0.9867",
                  "conv 64 64 3 3 16 16 1 1", "grouped convolution", "Time spent"):  # fmt: skip
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
    assert traces["Pareto front"] == (pytest.approx([1.21, 1.8]), [0.951, 0.985])
    assert traces["chosen"] == (pytest.approx([1.21]), [0.951])
    assert traces["best uniform plan"] == (pytest.approx([1.9]), [0.97])
    assert traces["dense"] == (pytest.approx([4.1]), [0.99])


@pytest.mark.parametrize(("higher", "floor"), [(True, 0.98), (False, 1.0)])
def test_the_allowed_loss_lies_on_the_bad_side(higher, floor):
    figure = pareto_figure({**RESULT, "higher_is_better": higher})
    assert figure is not None
    assert figure.layout.shapes[0].y0 == pytest.approx(floor)


def test_trials_without_a_metric_are_left_out_of_the_plot():
    trials = [{**trial, "metric": None} for trial in RESULT["search"]["trials"]]
    assert pareto_figure({**RESULT, "search": {**RESULT["search"], "trials": trials}}) is None


def test_layers_are_drawn_dense_and_as_chosen():
    figure = latency_figure(RESULT)
    assert figure is not None
    dense, chosen = figure.data
    assert list(dense.y) == pytest.approx([0.4, 3.0, 0.01])
    assert list(chosen.y) == pytest.approx([0.2, 0.9, 0.01])


def test_sparsity_is_drawn_as_planned_and_as_counted():
    figure = sparsity_figure(RESULT)
    assert figure is not None
    planned, counted = figure.data
    assert list(planned.x) == list(counted.x) == ["stem", "stage1.0.conv1", "fc"]
    assert list(planned.y) == list(counted.y) == pytest.approx([50.0, 75.0, 0.0])
