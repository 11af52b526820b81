"""The answer of a search: best, front, and the refusals when nothing answers."""

from dataclasses import replace

import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option, Partial, Plan
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.search import SearchProblem, Trial
from pruneaug_cli.search.trial import answer, front_of

OPTIONS = {"fc": (Option(DENSE, 3e-3, 0.0),)}


def trial(number, latency_s, metric):
    plan = Plan.of({"fc": LayerChoice(BlockShape(number + 1, 1), 0.5)})
    return Trial(number, plan, latency_s, metric, 0.0, "test")


def ask(**question):
    return SearchProblem(OPTIONS, 0.0, 0.9, **question)


TRIALS = (trial(0, 1e-3, 0.80), trial(1, 2e-3, 0.89), trial(2, 2.5e-3, 0.88), trial(3, 2e-3, 0.895))


def test_the_fastest_within_the_drop_wins_and_accuracy_breaks_the_tie():
    assert answer(ask(max_drop=0.01), TRIALS).number == 3


def test_the_most_accurate_within_the_target_wins():
    assert answer(ask(target_latency_s=2e-3), TRIALS).number == 3
    assert answer(ask(target_latency_s=1.5e-3), TRIALS).number == 0


def test_the_front_holds_no_trial_that_another_beats():
    assert [t.number for t in front_of(ask(max_drop=0.01), TRIALS)] == [0, 3]


def test_lower_metrics_are_better_when_the_problem_says_so():
    lower = SearchProblem(OPTIONS, 0.0, 0.7, higher_is_better=False, max_drop=0.1)
    assert answer(lower, TRIALS).number == 0


@pytest.mark.parametrize(
    ("question", "message", "hint"),
    [
        (
            {"max_drop": 0.001},
            "none of 4 plans evaluated loses 0.001 or less: the nearest loses 0.005 and takes 2 ms",
            "allow a drop of 0.005, or more trials",
        ),
        (
            {"target_latency_s": 5e-4},
            "none of 4 plans evaluated takes 0.5 ms or less: the fastest takes 1 ms",
            "allow more trials",
        ),
        (
            {"target_latency_s": 1.5e-3, "max_drop": 0.02},
            (
                "the most accurate plan found within 1.5 ms loses 0.1, more than the 0.02 allowed "
                "(4 plans evaluated)"
            ),
            "allow a drop of 0.1, a slower target, or more trials",
        ),
    ],
    ids=["drop", "target", "both"],
)
def test_without_an_answer_the_nearest_is_named(question, message, hint):
    with pytest.raises(BudgetError) as refusal:
        answer(ask(**question), TRIALS)
    assert (str(refusal.value), refusal.value.hint) == (message, hint)


def test_where_all_plans_within_the_target_ended_early_the_drop_is_named():
    early = [replace(one, partial=Partial(one.metric, 10, 99, 0.001)) for one in TRIALS[:2]]
    with pytest.raises(BudgetError) as refusal:
        answer(ask(max_drop=0.001, target_latency_s=2e-3), (*early, TRIALS[2]))
    assert str(refusal.value) == (
        "none of 2 plans evaluated within 2 ms loses 0.001 or less: the nearest loses about 0.01"
    )
    assert refusal.value.hint == "allow a larger drop, a slower target, or more trials"


def test_without_trials_there_is_no_answer():
    with pytest.raises(BudgetError, match="the search evaluated no plan"):
        answer(ask(max_drop=0.1), ())
