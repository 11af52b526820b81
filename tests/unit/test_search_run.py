"""The record of a search: what is stored, resumed, refused, and what a failure leaves."""

import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

import pruneaug_cli.search
from pruneaug_cli.core import DENSE, BlockShape, Evaluation, LayerChoice, Option, Partial
from pruneaug_cli.errors import BudgetError, RunError, TaskError, UnsupportedError, UsageError
from pruneaug_cli.search import SearchProblem, run_search
from pruneaug_cli.search.owner import this_process
from pruneaug_cli.search.storage import translated

CHOICES = tuple(
    LayerChoice(BlockShape(rows, 1), sparsity)
    for rows, sparsity in itertools.product((4, 8), (0.25, 0.5, 0.75))
)
ROW = (
    Option(DENSE, 1e-3, 0.0),
    *(Option(c, 1e-3 * (1.05 - c.sparsity), c.sparsity**2 * c.block.rows / 80) for c in CHOICES),
)
PROBLEM = SearchProblem({"conv": ROW, "fc": ROW}, 1e-4, 0.9, max_drop=0.1)


def evaluate(plan):
    return 0.9 - sum(c.sparsity**2 * c.block.rows / 80 for _, c in plan.items() if c.block)


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A database with Optuna's tables: making them takes longer than a test."""
    path = tmp_path_factory.mktemp("blank") / "study.db"
    release(optuna.storages.RDBStorage(f"sqlite:///{path}"))
    return path


@pytest.fixture
def storage(blank, tmp_path):
    return f"sqlite:///{shutil.copy(blank, tmp_path / 'study.db')}"


@pytest.fixture(scope="module")
def undisturbed(blank):
    return search(f"sqlite:///{shutil.copy(blank, blank.with_name('undisturbed.db'))}")


def release(database):
    database.remove_session()
    database.engine.dispose()


def search(storage, evaluate=evaluate, problem=PROBLEM, **settings):
    return run_search(
        problem, evaluate, storage=storage, **({"study_name": "mine", "trials": 4} | settings)
    )


def recorded(storage):
    database = optuna.storages.RDBStorage(storage)
    trials = optuna.load_study(storage=database, study_name="mine").get_trials()
    release(database)
    return trials


def test_a_trial_carries_its_record(storage):
    found = search(storage, trials=2)
    for trial, record in zip(found.trials, recorded(storage), strict=True):
        assert record.values == [trial.predicted_latency_s, trial.metric]
        assert record.params == trial.parameters
        assert record.user_attrs == {
            "plan": trial.plan.to_json(),
            "origin": trial.origin,
            "seed": 0,
            "predicted_latency_s": trial.predicted_latency_s,
            "owner": this_process(),
            "metric": trial.metric,
            "seconds": trial.seconds,
        }


def test_running_again_evaluates_only_what_is_missing(storage):
    first = search(storage, strategy="uniform", trials=3)
    asked = []

    def ask(plan):
        asked.append(plan)
        return evaluate(plan)

    second = search(storage, ask, strategy="uniform", trials=5)
    assert second.trials[:3] == first.trials
    assert [trial.plan for trial in second.trials[3:]] == asked
    assert second.evaluations == 2


def test_a_known_study_answers_another_question_without_evaluations(storage):
    search(storage)
    looser = SearchProblem(PROBLEM.options, PROBLEM.rest_s, 0.9, target_latency_s=2e-3)
    found = search(storage, pytest.fail, looser)
    assert found.evaluations == 0
    assert found.best.predicted_latency_s <= 2e-3


def test_no_plan_is_evaluated_twice_and_a_small_space_ends_the_search(storage):
    tiny = SearchProblem({"fc": ROW[:3]}, 0.0, 0.9, max_drop=0.5)
    found = search(storage, problem=tiny, trials=10)
    plans = [trial.plan for trial in found.trials]
    assert len(set(plans)) == len(plans) <= 2


def test_the_best_uniform_plan_is_reported_beside_the_best(storage):
    found = search(storage, trials=8)
    assert len({choice for _, choice in found.best_uniform.plan.items()}) == 1
    assert found.best.predicted_latency_s <= found.best_uniform.predicted_latency_s


def test_progress_tells_the_best_so_far(storage):
    steps = []
    search(storage, progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(n, 4) for n in range(5)]
    assert re.fullmatch(r"best [\d.]+ ms, metric 0\.\d+", steps[-1].note)


def test_progress_tells_the_front_and_what_is_in_flight(storage):
    steps = []
    found = search(storage, trials=5, progress=steps.append)
    standings = [step.standing for step in steps]
    assert [[f.trial for f in standing.flights] for standing in standings] == [
        *([n] for n in range(5)), [],
    ]  # fmt: skip
    last = standings[-1]
    assert [point.trial for point in last.front] == [trial.number for trial in found.front]
    assert last.best.trial == found.best.number
    assert last.uniform.trial == found.best_uniform.number
    assert last.best.drop == pytest.approx(0.9 - found.best.metric)
    assert (last.max_drop, last.target_latency_s, last.baseline_s) == (0.1, None, None)


def test_progress_tells_when_the_time_ends(storage):
    steps, seconds = [], itertools.count()
    search(storage, trials=50, timeout_s=20.0, clock=lambda: float(next(seconds)),
           progress=steps.append)  # fmt: skip
    left = [step.ends_in_s for step in steps]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0.0


def test_no_trial_begins_after_the_timeout(storage):
    seconds = itertools.count()
    found = search(storage, trials=50, timeout_s=10.0, clock=lambda: float(next(seconds)))
    assert 1 < found.evaluations < 10


class Interrupt:
    """Raises at one evaluation."""

    def __init__(self, at, error):
        self.left, self.error = at, error

    def __call__(self, plan):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return evaluate(plan)


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), TaskError("task.py: evaluate failed"), ZeroDivisionError()],
    ids=["interrupt", "refusal", "bug"],
)
def test_a_failure_passes_through_and_costs_its_trial_only(storage, undisturbed, error):
    with pytest.raises(type(error)):
        search(storage, Interrupt(3, error))
    states = [trial.state.name for trial in recorded(storage)]
    assert states == ["COMPLETE", "COMPLETE", "FAIL"]
    again = search(storage)
    assert again.evaluations == 2
    assert [t.plan for t in again.trials] == [t.plan for t in undisturbed.trials]
    assert again.best.plan == undisturbed.best.plan


def test_a_metric_that_is_no_number_is_refused(storage):
    with pytest.raises(TaskError, match="evaluation of a plan returned nan, expected a finite"):
        search(storage, lambda plan: float("nan"))


def test_an_unreachable_target_is_refused_before_anything_is_spent(tmp_path):
    impossible = SearchProblem(PROBLEM.options, 1e-4, 0.9, target_latency_s=1e-5)
    with pytest.raises(BudgetError, match=r"no plan is predicted to take 0\.01 ms or less"):
        search(f"sqlite:///{tmp_path / 'study.db'}", None, impossible)
    assert not list(tmp_path.iterdir())


def test_a_target_above_the_dense_plan_still_finds_a_pruned_one(storage):
    easy = SearchProblem(PROBLEM.options, 1e-4, 0.9, target_latency_s=1.0)
    assert search(storage, problem=easy).best.predicted_latency_s < 2.1e-3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"seed": 7}, UsageError, "study 'mine' was made with seed 0, not 7"),
        ({"strategy": "random"}, UsageError, "study 'mine' was made with strategy 'knapsack', not"),
        (
            {"made_with": {"search.ridge": 0.1}},
            UsageError,
            "study 'mine' was made with search.ridge 0.01, not 0.1",
        ),
        (
            {"problem": SearchProblem(PROBLEM.options, 0.0, 0.9, max_drop=0.1)},
            RunError,
            "study 'mine' is about another problem",
        ),
    ],
    ids=["seed", "strategy", "setting", "problem"],
)
def test_a_study_of_something_else_is_refused(storage, settings, error, message):
    made_with = {"search.ridge": 0.01}
    search(storage, trials=1, made_with=made_with)
    with pytest.raises(error, match=message) as refusal:
        search(storage, **({"made_with": made_with} | settings))
    assert "another run directory" in refusal.value.hint


def test_a_study_made_by_others_is_refused(storage):
    database = optuna.storages.RDBStorage(storage)
    study = optuna.create_study(storage=database, study_name="mine")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    release(database)
    with pytest.raises(RunError, match="study 'mine' was not made by pruneaug"):
        search(storage)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("study.db", RunError, "study.db: cannot be used as a study: Could not parse"),
        ("sqlite:////no/such/folder/s.db", RunError, "unable to open database file"),
        ("oracle://me:secret@host/x", UnsupportedError, r"oracle://me:\*\*\*@host/x: the driver"),
    ],
    ids=["no-url", "folder", "driver"],
)
def test_a_storage_that_cannot_be_used_is_refused(url, error, message):
    with pytest.raises(error, match=message):
        search(url)


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("MySQLdb", "mysqlclient"),
        ("mysql", "mysql-connector-python"),
        ("psycopg", "'pruneaug[postgresql]'"),
        ("pymysql", "pymysql"),
    ],
)
def test_a_missing_driver_is_named_as_it_is_installed(module, package):
    with (
        pytest.raises(UnsupportedError, match="the driver of this database") as refusal,
        translated("mysql://me:secret@host/x"),
    ):
        raise ModuleNotFoundError(name=module)
    assert refusal.value.hint == f"pip install {package}"


def test_a_damaged_study_file_is_refused(tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(RunError, match="file is not a database"):
        search(f"sqlite:///{tmp_path / 'study.db'}")


def test_optunas_log_keeps_its_level(storage):
    before = optuna.logging.get_verbosity()
    search(storage, trials=1)
    assert optuna.logging.get_verbosity() == before


def test_a_search_says_nothing_of_its_own(storage, capfd):
    search(storage)
    assert capfd.readouterr() == ("", "")


def test_only_the_record_of_a_search_and_its_sampler_know_optuna():
    package = Path(pruneaug_cli.search.__file__).parent
    users = {
        p.name
        for p in package.rglob("*.py")
        if re.search("^(import|from) optuna", p.read_text(), re.M)
    }
    assert users == {"identity.py", "remarks.py", "sampler.py", "storage.py", "study.py"}


def stopping_beyond(max_drop, asked):
    """Ends the evaluation of every plan that loses more."""

    def look(plan):
        asked.append(plan)
        metric = evaluate(plan)
        partial = Partial(metric, 100, 500, max_drop) if 0.9 - metric > max_drop else None
        return Evaluation(metric, 0.5 * (0.9 - metric), partial)

    return look


def test_a_plan_that_was_given_up_is_recorded_but_never_an_answer(storage):
    asked = []
    strict = replace(PROBLEM, max_drop=0.03)
    look = stopping_beyond(0.03, asked)
    found = search(storage, look, problem=strict, trials=10)
    given_up = [trial for trial in found.trials if trial.partial is not None]
    assert given_up
    assert len(asked) == len(set(asked)) == len(found.trials)
    assert not {trial.number for trial in given_up} & {t.number for t in (found.best, *found.front)}
    (name,) = optuna.get_all_study_names(storage)
    stored = optuna.load_study(study_name=name, storage=storage).trials[given_up[0].number]
    assert stored.user_attrs["stopped"] == {"samples": 100, "of": 500, "max_drop": 0.03}
    assert stored.user_attrs["metric"] == given_up[0].metric
    assert (
        stored.user_attrs["divergence"] == given_up[0].divergence == 0.5 * (0.9 - stored.values[1])
    )
    # within a target no drop is asked for: estimates are no answers there either
    target = replace(strict, target_latency_s=found.best.predicted_latency_s)
    again = search(storage, look, problem=target, trials=len(found.trials))
    assert again.best.partial is None
    assert again.evaluations == 0


def test_one_that_a_larger_drop_makes_interesting_is_evaluated_again(storage):
    asked = []
    strict = search(storage, stopping_beyond(0.05, asked), problem=replace(PROBLEM, max_drop=0.05))
    given_up = {trial.plan for trial in strict.trials if trial.partial is not None}
    assert given_up
    smaller = search(storage, stopping_beyond(0.02, asked), problem=replace(PROBLEM, max_drop=0.05))
    assert smaller.evaluations == 0
    loose = search(storage, stopping_beyond(0.3, asked), problem=replace(PROBLEM, max_drop=0.3))
    assert loose.evaluations == len(given_up)
    assert all(trial.partial is None for trial in loose.trials)
