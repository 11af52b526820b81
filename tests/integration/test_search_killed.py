"""A search with two workers on a real task, killed again and again."""

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

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole-way")]

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
    with contextlib.suppress(sqlite3.OperationalError), sqlite3.connect(database) as connection:
        return {number: (plan, metric) for number, plan, metric in connection.execute(query)}
    return {}


def _wait_for_a_trial(database, known, search):
    """Until a trial is complete that is not ``known``, or the search has ended."""
    while search.poll() is None and not _completed(database).keys() - known.keys():
        time.sleep(0.05)


def _wait_for_the_end_of(processes):
    """No worker outlives its search."""
    deadline = time.monotonic() + 30.0
    while any(Path(f"/proc/{process}").exists() for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_killed_at_random_moments_a_search_with_two_workers_loses_nothing(prepared, tmp_path):
    """Ten SIGKILLs, to a worker or to the search itself, from the database's building on."""
    profile, undisturbed = prepared
    run, dice = tmp_path / "killed", random.Random(4)  # noqa: S311  no secret
    endless = [*_command(profile, run), "--trials", "10000"]
    survivors, kills, seen = {}, 0, set()
    while kills < 10:
        with _start(endless) as search:
            while search.poll() is None:
                if kills % 2:  # half of the moments lie between trials, not before the first
                    _wait_for_a_trial(run / "study.db", _completed(run / "study.db"), search)
                time.sleep(dice.uniform(0.0, 2.0))
                workers = _workers(search.pid)
                if not workers:
                    continue  # it is about to start them
                kills += 1
                seen |= set(workers)
                victim = dice.choice([workers[0], workers[-1], search.pid])
                os.kill(search.pid if kills == 10 else victim, signal.SIGKILL)
            assert search.returncode == -signal.SIGKILL, search.stderr.read()
        _wait_for_the_end_of(seen)
        found = _completed(run / "study.db")
        assert found.items() >= survivors.items()
        survivors = found
    trials = max(TRIALS, len(survivors) + 2)
    result = _finished([*_command(profile, run), "--trials", str(trials)])
    final = _completed(run / "study.db")
    assert final.items() >= survivors.items()
    assert len({plan for plan, _ in final.values()}) == len(final) == result["trials"] == trials
    assert result["predicted_latency_s"] <= 1.05 * undisturbed["predicted_latency_s"]
