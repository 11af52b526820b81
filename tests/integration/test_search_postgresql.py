"""Searches of several processes in one PostgreSQL database, as several machines would."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SEARCH = """
import os, signal, sys, time
from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option
from pruneaug_cli.search import SearchProblem, run_search, storage

storage.BEAT_S, storage.GRACE_S = 1, 4
url, study, deadly, other_machine = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
if other_machine:
    from pruneaug_cli.search import owner
    owner._machine = lambda: other_machine
choices = [LayerChoice(BlockShape(8, 1), sparsity) for sparsity in (0.2, 0.4, 0.6, 0.8)]
options = (
    Option(DENSE, 1e-3, 0.0),
    *(Option(choice, 1e-3 * (1.0 - choice.sparsity), choice.sparsity**3) for choice in choices),
)
problem = SearchProblem(dict.fromkeys("abcd", options), 1e-4, 0.9, max_drop=0.3)
asked = 0

def evaluate(plan):
    global asked
    asked += 1
    if asked == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return 0.9 - sum(0.1 * choice.sparsity**2 for _, choice in plan.items())

found = run_search(
    problem, evaluate, storage=url, study_name=study, strategy="random", trials=20
)
plans = {trial.plan for trial in found.trials}
print(len(found.trials), len(plans), found.evaluations, found.storage)
"""


def _programs() -> Path | None:
    """The folder of PostgreSQL's server programs; Debian keeps them out of the PATH."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    paths = [Path(found).resolve(), *debian] if found else debian
    return paths[-1].parent if paths else None


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of our own, reached through a socket in a private folder."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    pytest.importorskip("psycopg", reason="pip install 'pruneaug[postgresql]'")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to be root's
    folder = Path(tempfile.mkdtemp(prefix="pruneaug-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"

    def run(*words: str | Path) -> None:
        subprocess.run(  # noqa: S603  the server's own programs
            [str(word) for word in words], user=user, check=True, cwd=folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    try:
        run(programs / "initdb", "--auth", "trust", "--username", "tester", "-D", data)
        settings = f"-c listen_addresses='' -c fsync=off -k {folder}"
        control = programs / "pg_ctl"
        run(control, "start", "--wait", "-D", data, "-l", folder / "log", "-o", settings)
        try:
            yield f"postgresql+psycopg://tester:secret@/postgres?host={folder}"
        finally:
            run(control, "stop", "--wait", "-m", "immediate", "-D", data)
    finally:
        shutil.rmtree(folder)


def _start(url: str, study: str, deadly: int = 0, machine: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603  our own interpreter and script
        [sys.executable, "-c", SEARCH, url, study, str(deadly), machine],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_three_processes_one_of_which_is_killed_search_together(url: str) -> None:
    """They make tables and study at the same moment; the dead one counts as another machine."""
    study = "together"
    searches = [
        _start(url, study),
        _start(url, study),
        _start(url, study, deadly=2, machine="elsewhere"),
    ]
    answers = [search.communicate(timeout=180) for search in searches]
    assert [search.returncode for search in searches] == [0, 0, -9], answers
    lines = [out.split() for out, _ in answers[:2]]
    for trials, plans, _, storage in lines:
        assert trials == plans == "20"
        assert "secret" not in storage
    evaluations = [int(line[2]) for line in lines]
    assert all(evaluations)
    assert sum(evaluations) == 19  # the dead one completed one


@pytest.mark.slow
def test_a_search_that_goes_on_alone_knows_every_plan(url: str) -> None:
    for evaluations in ("20", "0"):
        out, err = _start(url, "alone").communicate(timeout=180)
        assert out.split()[:3] == ["20", "20", evaluations], err
