"""Which plan wins after a short training, and how few have to be trained for it."""

import math

import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option, Partial, Plan
from pruneaug_cli.errors import RunError
from pruneaug_cli.search import SearchProblem, SearchResult, Trial, choose_finalist, run_search
from pruneaug_cli.search.finalists import MOST
from pruneaug_cli.search.remarks import open_remarks
from pruneaug_cli.search.trial import Finalist, answer

CHOICES = [LayerChoice(BlockShape(8, 1), n / 100) for n in range(1, 60)]
ROW = (Option(DENSE, 1.0, 0.0), *(Option(c, 1.0 - c.sparsity, c.sparsity) for c in CHOICES))


def problem(**question):
    return SearchProblem({"fc": ROW}, 0.0, 0.9, **question)


def trial(number, latency_s, metric, partial=None):
    plan = Plan.of({"fc": CHOICES[number]})
    return Trial(number, plan, latency_s, metric, 0.0, "test", partial=partial)


def found(question, *trials):
    return SearchResult(trials, answer(question, trials), (), None, 0, 0.0, "s", "sqlite://")


class Train:
    """What plans reach, by trial; counts."""

    def __init__(self, reached):
        self.reached, self.asked = reached, []

    def __call__(self, asked):
        self.asked.append(asked.number)
        return self.reached[asked.number]


def decide(question, trials, reached, max_drop=0.01):
    train = Train(reached)
    result = choose_finalist(question, found(question, *trials), train, max_drop=max_drop)
    assert len(train.asked) == len(set(train.asked)) <= MOST
    assert result.finalists == tuple(Finalist(n, reached[n]) for n in train.asked)
    return result.best.number, train.asked


RELAXED = problem(max_drop=0.06)
LADDER = [trial(n, 1.1**n, 0.70 + 0.03 * n) for n in range(7)]  # 0.70 … 0.88; 5 is the answer


def test_a_plan_that_keeps_the_drop_makes_way_for_a_faster_one_that_does_too():
    assert decide(RELAXED, LADDER, {5: 0.90, 4: 0.895, 3: 0.88}) == (4, [5, 4, 3])


def test_one_that_does_not_is_replaced_by_a_slower_one_that_does():
    assert decide(RELAXED, LADDER, {5: 0.88, 6: 0.895}) == (6, [5, 6])


def test_where_none_keeps_the_drop_the_best_is_taken():
    assert decide(RELAXED, LADDER, {5: 0.88, 6: 0.87}) == (5, [5, 6])


def test_one_whose_training_diverged_is_out():
    nan = math.nan
    assert outcome(RELAXED, {5: nan, 6: 0.895}) == (6, [5, 6])
    assert outcome(RELAXED, {5: 0.90, 4: nan}) == (5, [5, 4])
    assert outcome(RELAXED, {5: nan, 6: nan}) == (5, [5, 6])  # the search's answer stands
    target = problem(target_latency_s=1.1**5)
    assert outcome(target, {5: nan, 4: 0.7}, max_drop=None) == (4, [5, 4])


def outcome(question, reached, max_drop=0.01):
    train = Train(reached)
    result = choose_finalist(question, found(question, *LADDER), train, max_drop=max_drop)
    assert [finalist.trial for finalist in result.finalists] == train.asked
    return result.best.number, train.asked


def test_a_drop_is_kept_to_the_last_digit():
    assert decide(RELAXED, LADDER, {5: 0.9 - 0.01, 4: 0.0}) == (5, [5, 4])


def test_the_second_of_a_band_is_trained_where_the_first_fails():
    band = [trial(0, 1.0, 0.85), trial(1, 1.01, 0.86), trial(2, 0.99, 0.845), trial(3, 1.02, 0.83)]
    reached = {0: 0.88, 1: 0.893, 2: 0.9, 3: 0.9}
    assert decide(problem(max_drop=0.06), band, reached) == (2, [2])
    assert decide(problem(max_drop=0.05), band, reached) == (1, [0, 1])


def test_no_more_are_trained_than_allowed():
    slow = [trial(n, 1.1**n, 0.85) for n in range(20)]
    assert len(decide(RELAXED, slow, dict.fromkeys(range(20), 0.5))[1]) == MOST


def test_plans_that_were_given_up_take_no_part():
    hopeless = trial(9, 0.99 * 1.1**4, 0.83, Partial(0.83, 10, 100, 0.06))
    assert decide(RELAXED, [*LADDER, hopeless], {5: 0.9, 4: 0.0})[1] == [5, 4]


def test_within_a_target_the_most_accurate_after_training_wins():
    target = problem(target_latency_s=1.1**3)
    reached = {3: 0.85, 2: 0.87}
    assert decide(target, LADDER, reached, max_drop=None) == (2, [3, 2])
    reached = {3: 0.87, 2: 0.87}  # between equals the faster
    assert decide(target, LADDER, reached, max_drop=0.01) == (2, [3, 2])


def ends_after(count, question, trials, reached, max_drop=0.01):
    """Chosen when the time is over after so many trainings: number, finalists, whether it was."""
    trained = iter(range(count))

    def train(asked):
        return reached[asked.number] if next(trained, None) is not None else None

    result = choose_finalist(question, found(question, *trials), train, max_drop=max_drop)
    return result.best.number, [f.trial for f in result.finalists], result.finalists_untrained


def test_when_time_is_over_the_best_so_far_is_the_answer():
    reached = {5: 0.90, 4: 0.895, 3: 0.88}
    assert ends_after(0, RELAXED, LADDER, reached) == (5, [], True)
    assert ends_after(2, RELAXED, LADDER, reached) == (4, [5, 4], True)
    assert ends_after(3, RELAXED, LADDER, reached) == (4, [5, 4, 3], False)
    assert ends_after(1, RELAXED, LADDER, {5: 0.88}) == (5, [5], True)
    target = problem(target_latency_s=1.1**3)
    assert ends_after(1, target, LADDER, {3: 0.85}, max_drop=None) == (3, [3], True)


def test_no_plan_is_begun_once_one_had_no_time():
    asked = []

    def never(trial):
        asked.append(trial.number)

    result = choose_finalist(RELAXED, found(RELAXED, *LADDER), never, max_drop=0.01)
    assert (asked, result.best.number) == ([5], 5)


def test_remarks_stay_with_the_study(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    result = run_search(
        RELAXED, lambda plan: 0.9 - 0.05 * plan["fc"].sparsity,
        storage=storage, study_name="mine", trials=2,
    )  # fmt: skip
    with open_remarks(storage, "mine") as remarks:
        assert remarks.find(0, "topic") is None
        remarks.write(0, "topic", 0.875)
        remarks.write(1, "other", math.pi)
    with open_remarks(storage, "mine") as remarks:
        assert remarks.find(0, "topic") == 0.875
        assert remarks.find(1, "topic") is None
    again = run_search(RELAXED, lambda plan: 0.0, storage=storage, study_name="mine", trials=2)
    assert again.trials == result.trials


def test_remarks_on_a_study_that_is_not_there_are_refused(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(RunError, match="has no study 'x'"), open_remarks(storage, "x"):
        pass
