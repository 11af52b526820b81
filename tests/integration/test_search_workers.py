"""A search with two workers on a real task: killed again and again, refused, interrupted."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("search-workers")]

TRIALS = 24
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def prepared(mini_profile, tmp_path_factory):
    """The profile with the network's rest in it, and a run that nobody disturbed."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    found = _finished(_command(mini_profile, run))
    return run / "profile.json", found


def _command(profile, run, *more):
    return [
        sys.executable, "-m", "pruneaug_cli", "search", "--task", "builtin:digits-mini",
        "--max-drop", "0.05", "--trials", str(TRIALS), "--workers", "2",
        "--set", "finetune.epochs=0", "--platform", str(profile), "--run", str(run), "--json",
        *more,
    ]  # fmt: skip


def _finished(command):
    done = subprocess.run(  # noqa: S603  our own program
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _start(command):
    return subprocess.Popen(  # noqa: S603  our own program
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _workers(parent):
    """Process numbers of the workers: children that are not multiprocessing's tracker."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    with contextlib.suppress(OSError):
        numbers = [int(number) for number in children.read_text().split()]
        return [n for n in numbers if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]
    return []


def _completed(database):
    """Plans and metrics of the completed trials, by number."""
    query = (
        "select number, value_json, value from trials join trial_user_attributes a "
        "using (trial_id) join trial_values v using (trial_id) "
        "where state = 'COMPLETE' and key = 'plan' and objective = 1"
    )
    if not database.exists():
        return {}
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(database, timeout=60.0)) as connection,
    ):
        return {number: (plan, metric) for number, plan, metric in connection.execute(query)}
    return {}


def _wait_for_more(database, known):
    """Until a trial is complete that is not ``known``."""
    deadline = time.monotonic() + 300.0
    while not _completed(database).keys() - known.keys():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_killed_at_random_moments_a_search_with_two_workers_loses_nothing(prepared, tmp_path):
    """Ten SIGKILLs, to a worker or to the search itself, each after some progress."""
    profile, undisturbed = prepared
    run, dice = tmp_path / "killed", random.Random(4)  # noqa: S311  no secret
    endless = [*_command(profile, run), "--trials", "10000"]
    survivors, kills = {}, 0
    while kills < 10:
        with _start(endless) as search:
            while search.poll() is None:
                _wait_for_more(run / "study.db", survivors)
                time.sleep(dice.uniform(0.0, 1.5))
                survivors |= _completed(run / "study.db")
                kills += 1
                victim = dice.choice([*_workers(search.pid), search.pid])
                os.kill(search.pid if kills == 10 else victim, signal.SIGKILL)
                if kills == 10 or victim == search.pid:
                    search.wait()
            assert search.returncode == -signal.SIGKILL, search.stderr.read()
        assert _completed(run / "study.db").items() >= survivors.items()
    trials = max(TRIALS, len(survivors) + 2)
    result = _finished([*_command(profile, run), "--trials", str(trials)])
    final = _completed(run / "study.db")
    assert final.items() >= survivors.items()
    assert len({plan for plan, _ in final.values()}) == len(final) == result["trials"] == trials
    assert result["predicted_latency_s"] <= 1.05 * undisturbed["predicted_latency_s"]


def test_an_interrupt_ends_all_processes_and_the_search_goes_on_later(prepared, tmp_path):
    profile, _ = prepared
    run = tmp_path / "interrupted"
    with _start(_command(profile, run)) as search:
        _wait_for_more(run / "study.db", {})
        workers = _workers(search.pid)
        for process in (search.pid, *workers):  # as a terminal does
            os.kill(process, signal.SIGINT)
        _, errors = search.communicate(timeout=30)
    assert search.returncode == 130
    assert "Traceback" not in errors
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    before = _completed(run / "study.db")
    assert _finished(_command(profile, run))["trials"] == TRIALS
    assert _completed(run / "study.db").items() >= before.items()


def test_two_searches_share_a_study_and_no_plan_is_evaluated_twice(prepared, tmp_path):
    profile, _ = prepared
    storage = ("--storage", f"sqlite:///{tmp_path / 'shared.db'}")
    run = tmp_path / "shared"
    _finished([*_command(profile, run, *storage), "--trials", "1"])
    with (
        _start(_command(profile, run, *storage)) as one,
        _start(_command(profile, run, *storage)) as two,
    ):
        answers = [search.communicate(timeout=300) for search in (one, two)]
    assert [one.returncode, two.returncode] == [0, 0], answers
    plans = [plan for plan, _ in _completed(tmp_path / "shared.db").values()]
    assert len(set(plans)) == len(plans) == TRIALS


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--workers", "0"), 2, "invalid value for '--workers': 0 is not in the range x>=1"),
        (("--engine", "proceses"), 4, "unknown engine 'proceses'"),
        (("--storage", "study.db"), 3, "study.db: cannot be used as a study"),
        (("--storage", "postgresql://me:secret@localhost:1/x"), 3, "postgresql://me:***@local"),
    ],
    ids=["workers", "engine", "no-url", "nobody-listens"],
)
def test_what_cannot_work_is_refused_before_anything_is_spent(
    prepared, invoke, tmp_path, words, code, message
):
    if "postgresql" in words[1]:
        pytest.importorskip("psycopg")
    run = tmp_path / "refused"
    outcome = invoke(
        "search", "--task", "builtin:digits-mini", "--platform", prepared[0], "--run", run, *words
    )
    assert outcome.code == code
    assert f"pruneaug: error: {message}" in outcome.err
    assert not (run / "database").exists()
