"""Luck with the samples of a metric: told by divergences, and held down in a cautious search."""

from dataclasses import replace

import numpy as np
import pytest

from pruneaug_cli.core import DENSE as UNPRUNED
from pruneaug_cli.core import BlockShape, Evaluation, LayerChoice, Option, Partial, Plan
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.search import SearchProblem, Trial, expected_drops, judged_drops, run_search
from pruneaug_cli.search.trial import answer, incumbent

BLOCKS = (BlockShape(4, 1), BlockShape(8, 1))
SPARSITIES = (0.2, 0.4, 0.6, 0.8)
ROW = (
    Option(UNPRUNED, 1.0, 0.0),
    *(
        Option(LayerChoice(block, s), 1.0 - s - 0.01 * block.rows, s**2 * (1.0 + 0.02 * block.rows))
        for block in BLOCKS
        for s in SPARSITIES
    ),
)
PROBLEM = SearchProblem(dict.fromkeys("abcd", ROW), 0.0, 1.0, max_drop=0.05, cautious=True)
TRUE_SLOPE = 0.1


def divergence(plan):
    harms = {option.choice: option.harm for option in ROW}
    return sum(harms[choice] for _, choice in plan.items())


def lucky(plan, *, noise=0.02):
    """The metric of a small sample: the same for a plan whenever it is asked."""
    seed = [option.choice for option in ROW]
    rng = np.random.default_rng([seed.index(choice) for _, choice in plan.items()])
    true = TRUE_SLOPE * divergence(plan)
    return Evaluation(1.0 - true + noise * float(rng.standard_normal()), divergence(plan))


def some_trials(count=40, **changes):
    rng = np.random.default_rng(0)
    choices = [option.choice for option in ROW]
    trials = []
    for number in range(count):
        plan = Plan.of({name: choices[rng.integers(1, len(choices))] for name in "abcd"})
        found = lucky(plan)
        trials.append(
            Trial(
                number,
                plan,
                PROBLEM.latency_s(plan),
                found.metric,
                0.0,
                "fit",
                **{"divergence": found.divergence, **changes},
            )
        )
    return trials


def test_a_cautious_problem_judges_by_the_larger_of_what_was_found_and_what_is_expected():
    trials = some_trials()
    found = [PROBLEM.drop(trial.metric) for trial in trials]
    expected = expected_drops(PROBLEM, trials)
    truth = np.array([TRUE_SLOPE * trial.divergence for trial in trials])
    near = np.abs(truth - 0.05) < 0.02
    assert np.abs(np.array(expected) - truth)[near].mean() < 0.5 * 0.02
    assert judged_drops(PROBLEM, trials) == list(map(max, found, expected))
    assert judged_drops(replace(PROBLEM, cautious=False), trials) == found


@pytest.mark.parametrize("trials", [some_trials(7), some_trials(divergence=None)])
def test_what_too_few_trials_or_none_tell_is_what_was_found(trials):
    assert expected_drops(PROBLEM, trials) == [None] * len(trials)
    assert judged_drops(PROBLEM, trials) == [PROBLEM.drop(trial.metric) for trial in trials]


def test_a_cautious_answer_keeps_the_drop_without_its_luck():
    trials = some_trials()
    bold = answer(replace(PROBLEM, cautious=False), trials)
    assert TRUE_SLOPE * bold.divergence > 0.06
    best = answer(PROBLEM, trials)
    assert best.predicted_latency_s > bold.predicted_latency_s
    assert TRUE_SLOPE * best.divergence < 0.055


def with_luck(trials, number):
    """The same, but for one trial that lost nothing where it was evaluated."""
    return [replace(t, metric=1.0) if t.number == number else t for t in trials]


def test_what_is_expected_of_some_is_told_by_all():
    fastest = min(some_trials()[:7], key=lambda trial: trial.predicted_latency_s)
    trials = with_luck(some_trials(), fastest.number)
    assert incumbent(PROBLEM, trials[:7]).number == fastest.number  # nothing tells of its luck
    best = incumbent(PROBLEM, trials, lambda trial: trial.number < 7)
    assert best.number != fastest.number


def test_the_most_accurate_plan_within_a_target_is_not_the_luckiest():
    question = replace(PROBLEM, max_drop=None, target_latency_s=2.5)
    within = [t for t in some_trials() if t.predicted_latency_s <= 2.5]
    worst = max(within, key=lambda trial: trial.divergence)
    trials = with_luck(some_trials(), worst.number)
    assert answer(replace(question, cautious=False), trials).number == worst.number
    assert answer(question, trials).divergence < worst.divergence


def test_too_few_trials_to_tell_are_no_answer():
    trials = [replace(trial, metric=1.0) for trial in some_trials(5)]
    message = "5 plans evaluated are too few to tell what they are expected to lose"
    with pytest.raises(BudgetError, match=message) as caught:
        answer(PROBLEM, trials)
    assert caught.value.hint == "allow 8 trials or more"


def test_where_no_plan_is_expected_to_keep_the_drop_the_nearest_is_named():
    trials = [replace(t, metric=1.0 - 3.0 * t.divergence) for t in some_trials()]
    with pytest.raises(BudgetError) as caught:
        answer(PROBLEM, trials)
    assert "none of 40 plans evaluated loses 0.05 or less: the nearest" in str(caught.value)
    assert "loses, or is expected to lose, " in str(caught.value)


@pytest.mark.parametrize("strategy", ["knapsack", "tpe", "nsga2", "greedy", "uniform"])
def test_cautious_searches_end_with_plans_that_keep_the_drop(strategy, tmp_path):
    """And not slower than what the same number of plans finds without looking for it."""
    found = run_search(
        PROBLEM, lucky, strategy=strategy, storage=f"sqlite:///{tmp_path}/study.db",
        study_name="s", trials=40,
    )  # fmt: skip
    assert TRUE_SLOPE * found.best.divergence < 0.06
    if strategy == "knapsack":
        bold = run_search(
            replace(PROBLEM, cautious=False), lucky, storage=f"sqlite:///{tmp_path}/bold.db",
            study_name="s", trials=40,
        )  # fmt: skip
        known = answer(PROBLEM, bold.trials)
        assert found.best.predicted_latency_s <= known.predicted_latency_s


def test_an_estimate_of_an_evaluation_that_ended_is_no_answer_but_tells():
    trials = some_trials()
    ended = [replace(trial, partial=Partial(trial.metric, 10, 100, 0.1)) for trial in trials]
    assert expected_drops(PROBLEM, ended) == expected_drops(PROBLEM, trials)
    assert incumbent(PROBLEM, ended) is None
