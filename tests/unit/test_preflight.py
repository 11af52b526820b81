"""What a dry run says of a target: that it can be reached, or what stands in the way."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from pruneaug_cli.app.reach import require_gain
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.search import look_ahead
from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.report.preflight import preflight_view
from pruneaug_cli.search import SearchProblem, run_search

DENSE_S = 1.8
FASTEST = Option(LayerChoice(BlockShape(8, 1), 0.9), 0.9, 0.0)


def verdicts(target, *settings):
    """The last notes of the view when the fastest plan is 1.8 times as fast as the dense model."""
    prepared = SimpleNamespace(
        task=SimpleNamespace(address="task.py"), trace=SimpleNamespace(skipped=())
    )
    pricing = SimpleNamespace(
        network=SimpleNamespace(dense_latency_s=DENSE_S, rest_s=0.1),
        profile=SimpleNamespace(name="laptop"),
        candidates=SimpleNamespace(log10_before=1.0, log10_after=1.0, cuts=()),
        options=lambda: {"fc": (Option(DENSE, 1.7, 0.0), FASTEST)},
        target_latency_s=lambda recipe: DENSE_S / recipe.goal.target_speedup,
        planned_latency_s=lambda recipe: (
            DENSE_S / recipe.goal.target_speedup * (1.0 - recipe.search.margin)
        ),
    )
    recipe = read_recipe(None, settings=settings, overrides={"goal.target_speedup": target})
    return preflight_view(look_ahead(prepared, recipe, pricing).to_json())[0].notes[1:]


@pytest.mark.parametrize(
    ("target", "settings", "said"),
    [
        (1.7, (), "The target can be reached."),
        (1.75, ("search.margin=0",), "The target can be reached."),
        (
            1.75,
            (),
            "The target cannot be reached: no plan is that fast with a margin of 5%.",
        ),
        (1.85, (), "The target cannot be reached: no plan is that fast."),
    ],
)
def test_a_target_that_only_the_margin_puts_out_of_reach_is_told_apart(target, settings, said):
    assert verdicts(target, *settings) == (said,)


def test_each_target_of_a_family_has_its_own_reason():
    assert verdicts((3.0, 1.75, 1.5, 2.0)) == (
        "Targets that can be reached: 1.5x.",
        "Targets that cannot be reached, no plan is that fast: 3x, 2x.",
        "Targets that cannot be reached, no plan is that fast with a margin of 5%: 1.75x.",
    )


def test_a_search_of_which_every_choice_is_slower_than_dense_is_refused_at_once():
    slower = LayerChoice(BlockShape(8, 1), 0.1)
    faster = Option(slower, 1e-3, 0.0)
    problem = SearchProblem(
        {"fc": (Option(DENSE, 1e-3, 0.0), Option(slower, 1.01e-3, 0.0))}, 0.0, 0.9, max_drop=0.1
    )
    with pytest.raises(BudgetError) as refusal:
        require_gain(problem)
    assert str(refusal.value) == (
        "no choice of any layer is predicted to be faster than staying dense"
    )
    assert refusal.value.hint.startswith("profile more blocks and higher sparsities")
    require_gain(replace(problem, rest_s=1.0, options={"fc": (Option(DENSE, 2e-3, 0.0), faster)}))
    with pytest.raises(BudgetError, match="the search evaluated no plan"):
        run_search(problem, lambda _: 0.9, storage="sqlite://", study_name="none", trials=4)
