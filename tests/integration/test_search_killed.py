"""SIGKILL at ten random moments with two workers, in a search without a model.

``test_search_workers.py`` does the same with a real task.
"""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

SEARCH = """
import sys, time
from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option
from pruneaug_cli.search import ENGINES, SearchProblem, run_search

CHOICES = [LayerChoice(BlockShape(8, 1), sparsity) for sparsity in (0.2, 0.4, 0.6, 0.8)]
OPTIONS = (
    Option(DENSE, 1e-3, 0.0),
    *(Option(choice, 1e-3 * (1.0 - choice.sparsity), choice.sparsity**3) for choice in CHOICES),
)

def evaluate(plan):
    time.sleep(0.2)
    weights = dict(zip("abcdef", (0.05, 0.1, 0.2, 0.4, 0.1, 0.1)))
    return 0.9 - sum(weights[layer] * choice.sparsity**2 for layer, choice in plan.items())

def make():
    return evaluate

if __name__ == "__main__":
    problem = SearchProblem(dict.fromkeys("abcdef", OPTIONS), 1e-4, 0.9, max_drop=0.2)
    with ENGINES.create("processes")(make, 2) as engine:
        found = run_search(
            problem, engine, storage=sys.argv[1], study_name="s", strategy="tpe",
            trials=int(sys.argv[2]),
        )
    print(len(found.trials), found.best.predicted_latency_s)
"""
PLANS = (
    "select number, value_json, value from trials join trial_user_attributes a using (trial_id) "
    "join trial_values v using (trial_id) "
    "where state = 'COMPLETE' and key = 'plan' and objective = 1"
)


def _completed(database):
    """Plans and metrics of the completed trials, by number."""
    if not database.exists():
        return {}
    with (
        contextlib.suppress(sqlite3.OperationalError),  # its tables are just being made
        contextlib.closing(sqlite3.connect(database, timeout=60.0)) as connection,
    ):
        return {number: (plan, metric) for number, plan, metric in connection.execute(PLANS)}
    return {}


def _processes(search):
    """The search and its workers."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{search}/task/{search}/children").read_text().split()
        return [
            search,
            *(int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()),
        ]
    return [search]


def _search(script, database, trials):
    command = [sys.executable, str(script), f"sqlite:///{database}", str(trials)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_every_completed_trial_survives_and_the_result_is_as_good(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(SEARCH)
    killed, undisturbed = tmp_path / "killed.db", tmp_path / "undisturbed.db"
    dice = random.Random(4)  # noqa: S311  no secret
    survivors, kills = {}, 0
    while kills < 10:
        with _search(script, killed, 10_000) as search:
            while search.poll() is None:
                _wait_for_more(killed, survivors)
                time.sleep(dice.uniform(0.0, 1.0))
                survivors |= _completed(killed)
                kills += 1
                victim = search.pid if kills == 10 else dice.choice(_processes(search.pid))
                os.kill(victim, signal.SIGKILL)
                if victim == search.pid:
                    search.wait()
            assert search.returncode == -signal.SIGKILL
        assert _completed(killed).items() >= survivors.items()
    trials = len(_completed(killed)) + 5
    with _search(script, killed, trials) as search, _search(script, undisturbed, trials) as other:
        answers = [process.communicate(timeout=300)[0].split() for process in (search, other)]
    final = _completed(killed)
    assert final.items() >= survivors.items()
    assert len({plan for plan, _ in final.values()}) == len(final) == trials
    assert [int(found) for found, _ in answers] == [trials, trials]
    latencies_s = [float(latency) for _, latency in answers]
    assert latencies_s[0] <= 1.1 * latencies_s[1]


def _wait_for_more(database, known):
    """Until a trial is complete that is not ``known``."""
    deadline = time.monotonic() + 120.0
    while not _completed(database).keys() - known.keys():
        assert time.monotonic() < deadline
        time.sleep(0.05)
