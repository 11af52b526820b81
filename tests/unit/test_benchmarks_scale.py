"""benchmarks/scale.py: what its bytes mean, and its refusals."""

import sys
from functools import partial
from pathlib import Path

import pytest
import scale

from pruneaug_cli.errors import UsageError
from tests.unit.scripts import require_refusal, run_script

run = partial(run_script, scale)


def process(proc: Path, pid: int, kib: int, children: str) -> None:
    task = proc / str(pid) / "task" / str(pid)
    task.mkdir(parents=True)
    (proc / str(pid) / "status").write_text(f"Name:\tx\nVmRSS:\t  {kib} kB\n", "utf-8")
    (task / "children").write_text(children, "utf-8")


def test_memory_is_that_of_a_process_and_all_below_it(tmp_path: Path) -> None:
    process(tmp_path, 1, 100, "2 3 ")
    process(tmp_path, 2, 10, "4 ")
    process(tmp_path, 3, 1, "9 ")  # the child 9 has ended since
    process(tmp_path, 4, 1000, "")
    assert scale.resident_bytes(1, tmp_path) == 1111 * 1024
    assert scale.resident_bytes(7, tmp_path) == 0


def test_steps_have_the_peak_of_their_time() -> None:
    """The child holds 64 MB in its first step only."""
    code = (
        "import json, time; x = b'1' * 64_000_000; time.sleep(0.5); del x;"
        "print(json.dumps({'step': 'a', 'options': 3, 'cpu_s': 2.0}), flush=True); time.sleep(0.5);"
        "print(json.dumps({'step': 'b', 'cpu_s': 2.5}), flush=True)"
    )
    row = scale.measured([sys.executable, "-c", code])
    first, second = row["steps"]
    assert (first["step"], first["options"], second["step"]) == ("a", 3, "b")
    assert row["peak_bytes"] == first["peak_bytes"] > second["peak_bytes"] + 32_000_000
    assert first["seconds"] > 0.4
    assert (first["cpu_s"], second["cpu_s"]) == (2.0, 0.5)


def test_a_search_that_fails_is_refused() -> None:
    with pytest.raises(UsageError, match="a search failed with exit code 3"):
        scale.measured([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--layers 10,1", "--layers: expected numbers from 2 to 54, got '1'"),
        ("--layers 55", "--layers: expected numbers from 2 to 54, got '55'"),
        ("--trials 0", "--trials, --workers: expected at least 1"),
        ("--seconds 0", "--seconds: expected more than 0, got 0"),
    ],
)
def test_refusals_are_one_line(
    words: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *words.split()) == 2
    require_refusal(scale, capsys.readouterr().err, message)
