"""Several workers on one study: claims, what is lost and done again, and when to give up."""

import contextlib
import itertools
import multiprocessing
import re
import shutil
import sqlite3
import threading
from pathlib import Path

import optuna
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from pruneaug_cli.children import WorkerDiedError
from pruneaug_cli.core import DENSE, BlockShape, Evaluation, LayerChoice, Option, Plan
from pruneaug_cli.errors import MetricError, RunError, TaskError, UnsupportedError
from pruneaug_cli.progress import silent
from pruneaug_cli.search import STRATEGIES, SearchProblem, run_search
from pruneaug_cli.search import storage as storage_module
from pruneaug_cli.search.engine import Outcome
from pruneaug_cli.search.owner import is_gone, this_process
from pruneaug_cli.search.run import Search
from pruneaug_cli.search.strategies.contract import Proposal
from pruneaug_cli.search.study import Study, open_study

CHOICES = tuple(
    LayerChoice(BlockShape(rows, 1), sparsity)
    for rows, sparsity in itertools.product((4, 8), (0.25, 0.5, 0.75))
)
ROW = (
    Option(DENSE, 1e-3, 0.0),
    *(Option(c, 1e-3 * (1.05 - c.sparsity), c.sparsity**2 * c.block.rows / 80) for c in CHOICES),
)
LAYERS = ("conv1", "conv2", "conv3", "fc")
PROBLEM = SearchProblem(dict.fromkeys(LAYERS, ROW), 1e-4, 0.9, max_drop=0.1)
PLANS = [Plan.of({**dict.fromkeys(LAYERS, DENSE), "fc": choice}) for choice in CHOICES]
WEIGHTS = tuple(
    Option(LayerChoice(BlockShape(1, 1), sparsity), 1e-3 - sparsity * 1e-4, sparsity * 0.02)
    for sparsity in (0.25, 0.5, 0.75)
)
DIED = WorkerDiedError("signal SIGKILL")


def evaluate(plan):
    return 0.9 - sum(c.sparsity**2 * c.block.rows / 80 for _, c in plan.items() if c.block)


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A database with Optuna's tables: making them takes longer than a test."""
    path = tmp_path_factory.mktemp("blank") / "study.db"
    with storage_module.open_storage(f"sqlite:///{path}"):
        return path


@pytest.fixture
def storage(blank, tmp_path):
    return f"sqlite:///{shutil.copy(blank, tmp_path / 'study.db')}"


def search(storage, engine, **settings):
    return run_search(
        PROBLEM,
        engine,
        storage=storage,
        **({"study_name": "mine", "strategy": "random", "trials": 6} | settings),
    )


def study(storage):
    return open_study(storage, "mine", problem=PROBLEM, strategy="random", seed=0)


def claim(study, plan, limit=99):
    return study.claim(Proposal(plan, "test"), PROBLEM.latency_s(plan), {}, limit)


def states(storage):
    with storage_module.open_storage(storage) as database:
        trials = optuna.load_study(storage=database, study_name="mine").get_trials()
        return [trial.state.name for trial in trials]


class Scripted:
    """An engine that answers the latest plan first; what its n-th answer is may be given."""

    def __init__(self, workers=2, answers=None):
        self.workers = workers
        self.answers = answers or {}
        self.flying, self.begun, self.most, self.answered = [], [], 0, 0

    def submit(self, plan):
        self.flying.append(plan)
        self.begun.append(plan)
        self.most = max(self.most, len(self.flying))

    def wait(self, timeout_s):
        plan = self.flying.pop()
        self.answered += 1
        result = self.answers.get(self.answered, Evaluation(evaluate(plan)))
        return [Outcome(plan, result, 0.1)]


@pytest.mark.parametrize("strategy", ["knapsack", "tpe", "random", "uniform"])
def test_all_workers_have_plans_and_no_plan_is_evaluated_twice(storage, strategy):
    engine = Scripted(workers=3)
    found = search(storage, engine, strategy=strategy)
    assert engine.most == 3
    assert len(engine.begun) == len(set(engine.begun)) == found.evaluations == 6
    assert {trial.plan for trial in found.trials} == set(engine.begun)


def test_one_worker_of_an_engine_finds_what_a_function_finds(storage, tmp_path, blank):
    other = f"sqlite:///{shutil.copy(blank, tmp_path / 'other.db')}"
    function, engine = search(other, evaluate), search(storage, Scripted(workers=1))
    assert [trial.plan for trial in engine.trials] == [trial.plan for trial in function.trials]


def test_a_worker_that_dies_loses_its_trial_and_its_plan_goes_to_the_next(storage):
    engine = Scripted(answers={2: DIED})
    found = search(storage, engine)
    assert len(found.trials) == 6
    assert len(engine.begun) == 7
    assert len(set(engine.begun)) == 6
    assert sorted(states(storage)) == ["COMPLETE"] * 6 + ["FAIL"]


def test_a_plan_on_which_three_workers_died_is_left_alone(storage):
    engine = Scripted(workers=1, answers=dict.fromkeys((1, 2, 3), DIED))
    found = search(storage, engine)
    deadly = engine.begun[0]
    assert engine.begun[:3] == [deadly] * 3
    assert len(found.trials) == 6
    assert deadly not in {trial.plan for trial in found.trials}


@pytest.mark.parametrize("none", [Evaluation(float("nan")), MetricError("returned inf")])
@pytest.mark.parametrize("strategy", ["knapsack", "tpe", "nsga2", "greedy"])
def test_a_plan_without_a_metric_is_left_out_and_never_tried_again(storage, none, strategy):
    engine = Scripted(workers=1, answers={2: none})
    found = search(storage, engine, strategy=strategy)
    assert len(engine.begun) == len(set(engine.begun)) == 7
    assert engine.begun[1] not in {trial.plan for trial in found.trials}
    assert (found.left_out, len(found.trials)) == (1, 6)
    again = Scripted(workers=1)
    assert search(storage, again, strategy=strategy, trials=8).left_out == 1
    assert not set(engine.begun) & set(again.begun)


def test_an_evaluation_here_may_have_no_metric_too(storage):
    worst = min(CHOICES, key=lambda choice: choice.sparsity)

    def sometimes(plan):
        if plan["fc"] == worst:
            raise MetricError("task.py: evaluate() returned nan")
        return evaluate(plan)

    found = search(storage, sometimes, strategy="uniform", trials=99)
    assert found.left_out == 1
    assert len(found.trials) == len(CHOICES) - 1


def test_few_plans_none_of_which_has_a_metric_are_refused_too(storage):
    with pytest.raises(TaskError, match=r"no plan has a metric: .* all 6 that were tried killed"):
        search(storage, lambda plan: float("inf"), strategy="uniform")
    assert len(search(storage, evaluate, strategy="uniform").trials) == 6  # once it is mended


NAN = Evaluation(float("nan"))


def test_where_plan_after_plan_has_no_metric_what_is_known_answers(storage):
    engine = Scripted(answers=dict.fromkeys(range(3, 100), NAN))
    found = search(storage, engine, trials=20)
    assert len(found.trials) == 2
    assert 10 <= found.left_out == len(engine.begun) - 2 <= 11  # one was in flight
    again = search(storage, Scripted(), trials=6)
    assert (len(again.trials), again.left_out) == (6, found.left_out)
    assert not {trial.plan for trial in again.trials[2:]} & set(engine.begun)


def test_where_no_plan_at_all_has_a_metric_the_search_ends_and_a_mended_one_tries_them(storage):
    engine = Scripted(answers=dict.fromkeys(range(1, 100), NAN))
    with pytest.raises(TaskError, match=r"10 plans in a row have no metric .*returned nan") as end:
        search(storage, engine, trials=20)
    assert end.value.hint == "check evaluate() of the task on a pruned model"
    found = search(storage, Scripted(), trials=14)
    assert found.left_out == 0
    assert set(engine.begun) <= {trial.plan for trial in found.trials}


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_strategy_goes_on_after_a_plan_without_a_metric(storage, strategy):
    problem = SearchProblem(dict.fromkeys(LAYERS, (*ROW, *WEIGHTS)), 1e-4, 0.9, max_drop=0.1)
    engine = Scripted(workers=1, answers={1: NAN})
    found = run_search(
        problem, engine, storage=storage, study_name="mine", strategy=strategy, trials=4
    )
    assert found.left_out == 1
    assert engine.begun[0] not in {trial.plan for trial in found.trials}


def test_a_plan_without_a_metric_is_believed_to_lose_too_much_where_it_was_tried(storage):
    seen = []

    class Watched:
        def space(self, problem):
            return STRATEGIES.create("tpe").space(problem)

        def propose(self, problem, trials, draw):
            seen.append(trials)
            return STRATEGIES.create("tpe").propose(problem, trials, draw)

    answers = {1: Evaluation(0.85, divergence=0.1), 2: NAN, 3: Evaluation(0.87, divergence=0.05)}
    engine = Scripted(workers=1, answers=answers)
    with study(storage) as opened:
        Search(opened, Watched(), PROBLEM, engine, 0, 3).run(3, lambda: 1.0, silent)
    barred, *others = seen[-1]
    assert barred.plan == engine.begun[1]
    assert barred.parameters.keys() == others[0].parameters.keys()
    assert PROBLEM.drop(barred.metric) > PROBLEM.max_drop
    assert (barred.divergence, barred.partial is None) == (0.2, False)


def test_workers_that_died_are_forgiven_once_the_search_has_ended_for_them(storage):
    with pytest.raises(UnsupportedError, match="10 workers in a row died"):
        search(storage, Scripted(workers=1, answers=dict.fromkeys(range(1, 99), DIED)))
    found = search(storage, Scripted(workers=1))
    assert (len(found.trials), found.left_out) == (6, 0)


def test_worker_after_worker_dying_ends_the_search(storage):
    engine = Scripted(answers=dict.fromkeys(range(3, 100), DIED))
    with pytest.raises(UnsupportedError, match=r"10 workers in a row died .*signal SIGKILL") as end:
        search(storage, engine)
    assert "fewer workers (search.workers)" in end.value.hint
    assert states(storage).count("COMPLETE") == 2
    assert "RUNNING" not in states(storage)


def test_an_error_in_a_worker_ends_the_search_and_nothing_that_is_known_is_lost(storage):
    engine = Scripted(answers={3: TaskError("task.py: evaluate failed")})
    with pytest.raises(TaskError, match=r"task\.py: evaluate failed"):
        search(storage, engine)
    assert states(storage) == ["FAIL", "COMPLETE", "COMPLETE", "FAIL"]  # the first was in flight
    found = search(storage, Scripted())
    assert found.evaluations == 4


def test_an_interrupt_leaves_nothing_in_flight(storage):
    class Interrupted(Scripted):
        def wait(self, timeout_s):
            if self.answered == 2:
                raise KeyboardInterrupt
            return super().wait(timeout_s)

    with pytest.raises(KeyboardInterrupt):
        search(storage, Interrupted())
    assert sorted(states(storage)) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]


def test_of_two_that_claim_a_plan_one_has_it(storage):
    with study(storage) as first, study(storage) as second:
        key = claim(first, PLANS[0])
        assert key is not None
        assert claim(second, PLANS[0]) is None
        first.complete(key, predicted_latency_s=1e-3, found=Evaluation(0.8), seconds=0.1)
        assert claim(second, PLANS[0]) is None
        record = second.record()
        assert [trial.plan for trial in record.known] == [PLANS[0]]
        assert (record.running, record.lost) == ((), ())


def test_of_two_that_claim_the_last_place_one_has_it(storage):
    with study(storage) as first, study(storage) as second:
        key = claim(first, PLANS[0], limit=1)
        assert claim(second, PLANS[1], limit=1) is None
        assert [proposal.plan for proposal in second.record().lost] == [PLANS[1]]
        first.fail(key)  # its process died: the place is free again
        assert claim(second, PLANS[1], limit=1) is not None


def _race(storage, barrier, answers):
    with study(storage) as mine:
        barrier.wait()
        answers.put([claim(mine, plan) is not None for plan in PLANS])
        mine.record()
        barrier.wait()  # a process that ends gives its trials up


@pytest.mark.slow
def test_claims_of_processes_do_not_collide(storage):
    with study(storage):
        pass
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(3), context.Queue()
    arguments = (storage, barrier, answers)
    processes = [context.Process(target=_race, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    won = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [sum(of_plan) for of_plan in zip(*won, strict=True)] == [1] * len(PLANS)


def test_a_trial_whose_process_died_is_swept_at_once_and_another_machines_is_not(
    storage, monkeypatch
):
    machine, number, _ = this_process().rsplit("/", 2)
    owners = iter([f"{machine}/{number}/1", "another machine/1/1"])
    for plan in PLANS[:2]:
        owner = next(owners)
        monkeypatch.setattr("pruneaug_cli.search.study.this_process", lambda owner=owner: owner)
        with study(storage) as dead:
            claim(dead, plan)
    with study(storage) as alive:
        alive.sweep()
        record = alive.record()
    assert [proposal.plan for proposal in record.lost] == PLANS[:1]
    assert [begun.proposal.plan for begun in record.running] == PLANS[1:2]


def test_a_trial_of_another_machine_is_swept_when_its_heart_has_stopped(storage, monkeypatch):
    monkeypatch.setattr("pruneaug_cli.search.study.this_process", lambda: "another machine/1/1")
    monkeypatch.setattr(storage_module, "BEAT_S", 1)
    monkeypatch.setattr(storage_module, "GRACE_S", 2)
    with study(storage) as theirs, study(storage) as ours:
        claim(theirs, PLANS[0])
        threading.Event().wait(3.0)  # time enough to look dead, were it not for the heart
        ours.sweep()
        assert ours.record().running
    threading.Event().wait(4.0)
    with study(storage) as ours:
        ours.sweep()
        assert [proposal.plan for proposal in ours.record().lost] == PLANS[:1]


def test_a_trial_of_another_machine_that_never_had_a_heartbeat_is_swept_in_the_end(
    storage, monkeypatch
):
    monkeypatch.setattr(storage_module, "BEAT_S", 1)
    monkeypatch.setattr(storage_module, "GRACE_S", 2)
    with monkeypatch.context() as there, study(storage) as theirs:
        there.setattr(theirs, "_owner", "another machine/1/1")
        there.setattr(theirs._heart, "add", lambda key: None)  # it dies before the first beat
        claim(theirs, PLANS[0])
    with study(storage) as ours:
        for _ in range(2):  # once to begin the wait, once to begin Optuna's own
            ours.sweep()
            assert ours.record().running
            threading.Event().wait(4.0)
        ours.sweep()
        assert [proposal.plan for proposal in ours.record().lost] == PLANS[:1]


def test_who_is_taken_for_dead_by_himself_goes_on(storage, monkeypatch):
    """As after a suspension: a plan in flight counts as lost, and is not begun twice at a time."""
    engine, swept = Scripted(workers=2), []
    sweep = Study.sweep

    def wakes_up(self):
        sweep(self)
        if len(engine.begun) == 2 and not swept:
            swept.append(engine.begun[0])
            with study(storage) as other:
                for number in (0, 1):
                    other.fail(other._key(number))

    monkeypatch.setattr(Study, "sweep", wakes_up)
    monkeypatch.setattr("pruneaug_cli.search.run._LOOK_S", 0.0)
    found = search(storage, engine)
    assert swept
    assert len(found.trials) == 6
    assert len({trial.plan for trial in found.trials}) == 6


@pytest.mark.parametrize("strategy", ["greedy", "halp", "uniform", "smallest", "knapsack"])
def test_no_strategy_ends_at_a_plan_that_kills(storage, strategy):
    engine = Scripted(workers=1, answers=dict.fromkeys((1, 2, 3), DIED))
    found = search(storage, engine, strategy=strategy, trials=2)
    assert len(found.trials) == 2
    assert engine.begun[0] not in {trial.plan for trial in found.trials}


def test_a_result_that_comes_too_late_is_not_recorded(storage):
    with study(storage) as slow, study(storage) as other:
        key = claim(slow, PLANS[0])
        other.fail(key)
        assert not slow.complete(key, predicted_latency_s=1e-3, found=Evaluation(0.8), seconds=0.1)
        assert claim(other, PLANS[0]) is not None


def test_a_search_waits_for_what_others_have_in_flight_and_does_it_when_they_die(
    storage, monkeypatch
):
    monkeypatch.setattr("pruneaug_cli.search.run._LOOK_S", 0.1)
    process = multiprocessing.get_context("spawn").Process(target=_leave, args=(storage,))
    process.start()
    process.join()
    engine = Scripted()
    found = search(storage, engine)
    assert PLANS[0] in engine.begun
    assert len(found.trials) == 6


def _leave(storage):
    with study(storage) as mine:
        claim(mine, PLANS[0])


def _collisions():
    """What two processes that make the same database at the same moment were seen to meet."""
    there = OperationalError("create", {}, sqlite3.OperationalError("table studies already exists"))
    twice = IntegrityError("insert", {}, sqlite3.IntegrityError("UNIQUE constraint failed"))
    wrapped = optuna.exceptions.StorageInternalError("an exception is raised")
    wrapped.__cause__ = there
    return [there, twice, wrapped]


def test_who_meets_another_making_the_database_tries_again(storage, monkeypatch):
    collisions, make = _collisions(), storage_module.RDBStorage

    def collide(*words, **more):
        if collisions:
            raise collisions.pop()
        return make(*words, **more)

    monkeypatch.setattr(storage_module, "RDBStorage", collide)
    monkeypatch.setattr(storage_module.time, "sleep", lambda _: None)
    assert len(search(storage, evaluate).trials) > 0
    assert collisions == []


def test_a_database_that_is_lost_meanwhile_is_told_in_one_line(storage):
    def lose(plan):
        with contextlib.closing(sqlite3.connect(storage.removeprefix("sqlite:///"))) as connection:
            connection.execute("drop table trial_values")
        return evaluate(plan)

    with pytest.raises(RunError, match=r"study\.db: the study is lost: no such table") as loss:
        search(storage, lose)
    assert "run the same command again" in loss.value.hint


def test_a_process_that_runs_is_not_gone():
    machine, number, start = this_process().rsplit("/", 2)
    assert not is_gone(this_process())
    assert not is_gone("another machine/1/1")
    assert is_gone(f"{machine}/{number}/{int(start or 0) + 1}")
    assert re.fullmatch(r"\d+", number)


@pytest.mark.parametrize("system", ["posix", "nt"])
def test_without_proc_who_lives_is_not_gone(monkeypatch, system):
    class Elsewhere(type(Path())):
        def exists(self):
            return not str(self).startswith("/proc") and super().exists()

    monkeypatch.setattr("pruneaug_cli.search.owner.Path", Elsewhere)
    monkeypatch.setattr("pruneaug_cli.search.owner.os.name", system)
    me = this_process()
    assert me.endswith("/")  # when it began is not known there
    assert not is_gone(me)
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    machine, _, _ = me.rsplit("/", 2)
    assert is_gone(f"{machine}/{process.pid}/") == (system == "posix")
