"""A search with two worker processes, without a model: interrupted, shared."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("search-workers"),
    pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc"),
]

SEARCH = """
import signal, sys, time
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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
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
    return subprocess.Popen(  # noqa: S603  our own interpreter and script
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "search.py"
    path.write_text(SEARCH)
    return path


def _wait_for_more(database, known):
    """Until a trial is complete that is not ``known``."""
    deadline = time.monotonic() + 120.0
    while not _completed(database).keys() - known.keys():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc (Linux)")
def test_the_very_first_worker_is_started_with_interrupts_blocked():
    """With it comes multiprocessing's resource tracker, whose start unblocks them."""
    asks = (
        "from pathlib import Path\n"
        "from pruneaug_cli.children import _Child\n"
        "if __name__ == '__main__':\n"
        "    worker = _Child(dict)\n"
        "    print(Path(f'/proc/{worker._process.pid}/status').read_text())\n"
        "    worker.end(0.0)\n"
    )
    command = [sys.executable, "-c", asks]
    found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    (blocked,) = re.findall(r"SigBlk:\s*(\S+)", found.stdout)
    assert int(blocked, 16) & 1 << (signal.SIGINT - 1)


def test_an_interrupt_ends_all_processes_and_leaves_nothing_in_flight(script, tmp_path):
    database = tmp_path / "interrupted.db"
    with _search(script, database, 10_000) as search:
        _wait_for_more(database, {})
        processes = _processes(search.pid)
        for process in processes:  # as a terminal does
            os.kill(process, signal.SIGINT)
        _, errors = search.communicate(timeout=60)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert errors.count("Traceback") == 1  # of the search; its workers say nothing
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        states = {state for (state,) in connection.execute("select state from trials")}
    assert states <= {"COMPLETE", "FAIL"}  # nothing runs


def test_two_searches_share_a_study_and_no_plan_is_evaluated_twice(script, tmp_path):
    database = tmp_path / "shared.db"
    with _search(script, database, 30) as one, _search(script, database, 30) as two:
        answers = [search.communicate(timeout=300) for search in (one, two)]
    assert [one.returncode, two.returncode] == [0, 0], answers
    assert [answer[0].split()[0] for answer in answers] == ["30", "30"]
    final = _completed(database)
    assert len({plan for plan, _ in final.values()}) == len(final) == 30
