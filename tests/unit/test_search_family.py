"""Several questions to one study: equal shares, the hardest first, nothing evaluated twice."""

import itertools

import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.search import SearchProblem, run_family, run_search

CHOICES = tuple(
    LayerChoice(BlockShape(rows, 1), sparsity)
    for rows, sparsity in itertools.product((4, 8), (0.25, 0.5, 0.75))
)
ROW = (
    Option(DENSE, 1e-3, 0.0),
    *(Option(c, 1e-3 * (1.05 - c.sparsity), c.sparsity**2 * c.block.rows / 80) for c in CHOICES),
)
LAYERS = {"conv": ROW, "fc": ROW, "head": ROW}


def asking(**question):
    return SearchProblem(LAYERS, 1e-4, 0.9, **question)


FAMILY = (
    asking(target_latency_s=2.5e-3),
    asking(target_latency_s=1.2e-3),
    asking(target_latency_s=1.8e-3),
)


class Evaluation:
    """Counts what it is asked, and can be interrupted."""

    def __init__(self, interrupt_at=0):
        self.plans, self.interrupt_at = [], interrupt_at

    def __call__(self, plan):
        if len(self.plans) + 1 == self.interrupt_at:
            raise KeyboardInterrupt
        self.plans.append(plan)
        return 0.9 - sum(c.sparsity**2 * c.block.rows / 80 for _, c in plan.items() if c.block)


@pytest.fixture
def storage(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def search(storage, evaluate, problems=FAMILY, trials=12, **settings):
    return run_family(
        problems, evaluate, storage=storage, study_name="mine", trials=trials, **settings
    )


def plans_of(found):
    return [trial.plan for trial in found[0].trials]


def test_every_target_is_met_from_one_study(storage):
    evaluate = Evaluation()
    found = search(storage, evaluate)
    for problem, result in zip(FAMILY, found, strict=True):
        assert result.best.predicted_latency_s <= problem.target_latency_s
        assert result.trials == found[0].trials
        assert result.front == found[0].front
    assert [result.evaluations for result in found] == [4, 4, 4]
    assert len(set(evaluate.plans)) == len(evaluate.plans) == 12


def test_the_hardest_question_is_asked_first(storage):
    found = search(storage, Evaluation())
    assert all(t.predicted_latency_s <= 2.4e-3 for t in found[0].trials[:2])  # its ladder
    drops = (asking(max_drop=0.2), asking(max_drop=0.05))
    known = search(storage, pytest.fail, drops)
    assert known[0].best.predicted_latency_s <= known[1].best.predicted_latency_s


def test_each_is_answered_from_all_trials(storage):
    """A plan found for one target may be the best there is for another."""
    found = search(storage, Evaluation())
    for problem, result in zip(FAMILY, found, strict=True):
        within = [
            trial.metric
            for trial in result.trials
            if trial.predicted_latency_s <= problem.target_latency_s
        ]
        assert result.best.metric == max(within)


def test_other_questions_cost_nothing_and_more_trials_only_the_difference(storage):
    search(storage, Evaluation())
    again = search(storage, pytest.fail, (asking(target_latency_s=1.5e-3), asking(max_drop=0.1)))
    assert [result.evaluations for result in again] == [0, 0]
    more = Evaluation()
    found = search(storage, more, trials=18)
    assert len(more.plans) == 6
    assert [result.evaluations for result in found] == [2, 2, 2]


def test_a_single_question_after_a_family_costs_nothing(storage):
    search(storage, Evaluation())
    found = run_search(FAMILY[0], pytest.fail, storage=storage, study_name="mine", trials=12)
    assert found.evaluations == 0


def test_interrupted_and_run_again_it_ends_as_if_undisturbed(storage, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        search(storage, Evaluation(interrupt_at=6))
    resumed = search(storage, Evaluation())
    undisturbed = search(f"sqlite:///{tmp_path / 'other.db'}", Evaluation())
    assert plans_of(resumed) == plans_of(undisturbed)
    assert [r.best.plan for r in resumed] == [r.best.plan for r in undisturbed]


def test_a_question_without_an_answer_leaves_the_others_theirs(storage):
    impossible = asking(target_latency_s=1.8e-3, max_drop=0.0)
    found = search(storage, Evaluation(), (FAMILY[0], impossible))
    assert isinstance(found[1], BudgetError)
    assert "more than the 0 allowed" in str(found[1])
    assert found[0].best.predicted_latency_s <= 2.5e-3


def test_progress_counts_the_trials_of_all_questions(storage):
    steps = []
    search(storage, Evaluation(), progress=steps.append)
    assert {step.total for step in steps} == {12}
    assert steps[-1].done == 12


def test_an_unreachable_question_is_refused_before_anything_is_spent(tmp_path):
    with pytest.raises(BudgetError, match=r"no plan is predicted to take 0\.01 ms or less"):
        search(
            f"sqlite:///{tmp_path / 'none.db'}", pytest.fail,
            (FAMILY[0], asking(target_latency_s=1e-5)),
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_questions_about_other_options_are_no_family(storage):
    other = SearchProblem({"fc": ROW}, 0.0, 0.9, max_drop=0.1)
    with pytest.raises(ValueError, match="questions about the same options"):
        search(storage, pytest.fail, (FAMILY[0], other))
