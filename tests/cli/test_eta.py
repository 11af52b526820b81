"""The time left: nothing before a few pieces, then what the latest pace says."""

import pytest

from pruneaug_cli.cli.eta import Pace
from pruneaug_cli.cli.stages import Stage
from pruneaug_cli.progress import Step


def paced(times_s, *, before=0, at_once=1):
    """A pace that saw one piece more at each of ``times_s``."""
    pace = Pace()
    pace.tell(0.0, before, at_once)
    for done, now_s in enumerate(times_s, start=before + 1):
        pace.tell(now_s, done, at_once)
    return pace


def test_nothing_is_said_before_three_pieces_are_done():
    assert Pace().left_s(0.0, 10) is None
    assert paced([1.0, 2.0]).left_s(2.0, 10) is None
    assert paced([1.0, 2.0, 3.0]).left_s(3.0, 10) == pytest.approx(7.0)


def test_what_an_earlier_run_finished_took_no_time():
    assert paced([2.0, 4.0, 6.0], before=40).left_s(6.0, 50) == pytest.approx(14.0)


def test_the_latest_pace_counts():
    slow, fast = [10.0 * i for i in range(1, 31)], [300.0 + i for i in range(1, 31)]
    assert paced([*slow, *fast]).left_s(330.0, 100) == pytest.approx(40.0)


def test_time_runs_between_pieces_but_never_out():
    pace = paced([2.0, 4.0, 6.0])
    assert pace.left_s(7.0, 5) == pytest.approx(3.0)
    assert pace.left_s(60.0, 5) == pytest.approx(2.0)


def test_workers_share_what_is_left_in_rounds():
    together = paced([10.0, 10.0, 20.0, 20.0], at_once=2)
    assert together.left_s(20.0, 8) == pytest.approx(20.0)
    assert together.left_s(20.0, 7) == pytest.approx(20.0)


def test_pieces_that_take_unlike_long_count_by_their_work():
    pace = Pace()
    for done, share in enumerate((0.0, 0.3, 0.6, 0.9)):  # the largest first
        pace.tell(10.0 * done, done, share=share)
    assert pace.left_s(30.0, 50) == pytest.approx(10.0 / 3.0)
    assert pace.left_s(32.0, 50) == pytest.approx(4.0 / 3.0)
    assert pace.left_s(60.0, 50) == 0.0


def test_as_many_pieces_as_workers_are_waited_for():
    assert paced([10.0] * 7, at_once=8).left_s(10.0, 50) is None
    assert paced([10.0] * 8, at_once=8).left_s(10.0, 16) == pytest.approx(10.0)


def test_a_stage_that_begins_anew_forgets():
    pace = paced([1.0, 2.0, 3.0])
    pace.tell(4.0, 0)
    assert pace.left_s(4.0, 10) is None


def test_a_time_limit_counts_when_it_comes_first():
    stage = Stage(Step("search", 0, 100), 0.0, 0.0)
    stage.tell(Step("search", 0, 100, ends_in_s=60.0), 0.0)
    assert stage.left(10.0) == "at most 0:50 left"
    stage.tell(Step("search", 4, 100, ends_in_s=40.0), 20.0)
    assert stage.left(20.0) == "0:40 left"
    stage.tell(Step("search", 97, 100, ends_in_s=39.0), 21.0)
    assert stage.left(21.0) == "0:01 left"
    stage.tell(Step("search", 98, 100, ends_in_s=0.0), 21.5)
    assert stage.left(21.5) == "time is up"
    stage.tell(Step("search", 100, 100, ends_in_s=38.0), 22.0)
    assert stage.left(22.0) == ""


def test_a_stage_of_unknown_length_says_nothing():
    stage = Stage(Step("evidence", 0, 0), 0.0, 0.0)
    for done in range(10):
        stage.tell(Step("evidence", done, 0), float(done))
    assert stage.left(9.0) == ""
