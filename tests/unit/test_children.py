"""Children do jobs, whatever happens to them."""

import contextlib
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from pruneaug_cli.children import Children, WorkerDiedError

pytestmark = pytest.mark.slow  # each child imports this package


def _begin():
    began = time.monotonic()

    def work(job):
        match job:
            case "fail":
                raise ValueError("no such job")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave":
                os._exit(7)
            case bytes():
                return len(job)
        return os.getpid(), began, job

    return work


def _no_beginning():
    raise LookupError("nothing to begin with")


@pytest.fixture
def children():
    with contextlib.closing(Children(_begin)) as children:
        yield children
    assert multiprocessing.active_children() == []


def answers(children, jobs):
    """What became of jobs, each once at a time."""
    for job in jobs:
        children.submit(job)
    found, deadline = {}, time.monotonic() + 120.0
    while len(found) < len(jobs):
        assert time.monotonic() < deadline
        found |= dict(children.wait(1.0))
    return [found[job] for job in jobs]


def test_a_child_is_kept_for_the_next_job_and_begins_once(children):
    first, second = answers(children, [1, 2])
    assert first[0] != second[0]
    third, fourth = answers(children, [3, 4])
    assert {first[:2], second[:2]} == {third[:2], fourth[:2]}


def test_what_a_job_raises_comes_back_with_its_place(children):
    (failed,) = answers(children, ["fail"])
    assert isinstance(failed, ValueError)
    assert "in work" in failed.__notes__[0]
    assert answers(children, [1])[0][2] == 1


def test_what_the_beginning_raises_is_the_answer():
    with contextlib.closing(Children(_no_beginning)) as children:
        (failed,) = answers(children, [1])
    assert isinstance(failed, LookupError)


def test_a_child_that_dies_loses_its_own_job_only(children):
    killed, left, good = answers(children, ["die", "leave", 1])
    assert isinstance(killed, WorkerDiedError)
    assert (str(killed), str(left)) == ("signal SIGKILL", "exit code 7")
    assert good[2] == 1


def test_a_child_that_died_with_nothing_to_do_is_replaced(children):
    answers(children, [1])
    (idle,) = multiprocessing.active_children()
    idle.kill()
    idle.join()
    assert answers(children, [2])[0][2] == 2


def test_a_job_larger_than_a_pipe_gets_through(children):
    assert answers(children, [bytes(20_000_000)]) == [20_000_000]


def test_nobody_waits_for_an_answer_that_is_not_there(children):
    children.submit(1)
    assert children.wait(0.0) == []


def test_children_killed_at_any_moment_are_replaced(children):
    """While they start, read their job, do it, or have none."""
    chance = np.random.default_rng(0)
    left, done, kills = [bytes(3_000_000 + index) for index in range(40)], [], 0
    running = 0
    deadline = time.monotonic() + 120.0
    while len(done) < 40:
        assert time.monotonic() < deadline
        while left and running < 2:
            children.submit(left.pop())
            running += 1
        for job, found in children.wait(chance.uniform(0.0, 0.2)):
            running -= 1
            (left if isinstance(found, WorkerDiedError) else done).append(job)
        if kills < 10 and chance.random() < 0.3:
            for child in multiprocessing.active_children():
                child.kill()
            kills += 1
    assert kills >= 3
    assert len(set(done)) == 40
