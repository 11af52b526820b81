"""The engine under AddressSanitizer and UBSan: right answers, and no damaged program hurts it."""

import shutil
import subprocess
import typing
from pathlib import Path

import numpy as np
import pytest

from pruneaug_cli.files import digest_bytes
from pruneaug_cli.kernels.native import Compiler
from pruneaug_cli.kernels.native.compiler import SOURCES
from pruneaug_cli.kernels.program import Instruction
from tests.native.cases import (
    DRIVER,
    Case,
    build_driver,
    checked_cases,
    run_driver,
    write_cases,
)
from tests.native.fuzz import damaged
from tests.native.programs import ACTIVATIONS, network

pytestmark = pytest.mark.xdist_group("sanitizers")  # one worker builds it

FLAGS = (
    "-O1", "-g", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
)  # fmt: skip
ENVIRONMENT = {"ASAN_OPTIONS": "allocator_may_return_null=1"}  # as outside: NULL, not an end
FAILURES = Path(__file__).resolve().parents[2] / "build" / "fuzz"
BATCH = 2000


def _sanitizing_compiler(folder: Path) -> str | None:
    """A compiler here whose sanitizers work."""
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    for compiler in ("gcc", "clang", "cc"):
        program = folder / compiler
        command = [compiler, *FLAGS, str(source), "-o", str(program)]
        if shutil.which(compiler) is None:
            continue
        built = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        ran = built.returncode == 0 and subprocess.run([program], check=False).returncode == 0  # noqa: S603
        if ran:
            return compiler
    return None


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Built once for each state of the sources."""
    folder = tmp_path_factory.mktemp("sanitized")
    compiler = _sanitizing_compiler(folder)
    if compiler is None:
        pytest.skip("no compiler here builds with -fsanitize=address,undefined")
    sources = (DRIVER, *sorted(SOURCES.iterdir()))
    key = digest_bytes(*(" ".join((compiler, *FLAGS)).encode(), *map(Path.read_bytes, sources)))
    kept = Compiler().cache / "tests" / f"driver-sanitized-{key[:16]}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        build_driver((compiler,), FLAGS, folder / "driver")
        (folder / "driver").replace(kept)
    return kept


def run_cases(driver: Path, cases: list[Case], folder: Path, *, threads: int = 0) -> None:
    """Run them; what fails is kept as a file of one case, and the command to repeat it told."""
    path = folder / "cases.bin"
    write_cases(path, cases)
    done = run_driver([str(driver)], path, threads=threads, env=ENVIRONMENT)
    if done.returncode == 0:
        return
    number = int(done.stdout.split("failed:")[0].rsplit("case ", 1)[-1].split()[0])
    FAILURES.mkdir(parents=True, exist_ok=True)
    kept = FAILURES / f"{digest_bytes(cases[number].to_bytes())[:16]}.bin"
    write_cases(kept, [cases[number]])
    said = "\n".join([*done.stdout.splitlines()[-3:], done.stderr[:3000]])
    pytest.fail(f"case {number}; repeat with: {driver} {kept} {threads}\n{said}")


def test_the_programs_cover_every_instruction_and_activation():
    program = network(np.random.default_rng(0), "4x1")
    assert {type(op) for op in program.instructions} == set(typing.get_args(Instruction))
    used = {
        getattr(op, "epilogue", op).activation for op in program.instructions
        if hasattr(op, "epilogue") or hasattr(op, "activation")
    }  # fmt: skip
    assert used == set(ACTIVATIONS)


@pytest.mark.slow
def test_answers_are_right_and_no_sanitizer_complains(driver, tmp_path):
    run_cases(driver, checked_cases(seed=1), tmp_path)


@pytest.mark.slow
def test_shared_layers_are_right_and_no_sanitizer_complains(driver, tmp_path):
    run_cases(driver, checked_cases(seed=2), tmp_path, threads=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_programs_are_refused_or_run(driver, tmp_path, seed):
    run_cases(driver, list(damaged(seed, BATCH)), tmp_path)


@pytest.mark.slow
def test_damaged_programs_run_on_threads(driver, tmp_path):
    run_cases(driver, list(damaged(3, BATCH)), tmp_path, threads=2)


@pytest.mark.slow
def test_a_wrong_answer_is_noticed_and_kept(driver, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.FAILURES", tmp_path / "kept")
    cases = checked_cases(seed=1)[:3]
    cases[1].expected[0] += 1.0
    with pytest.raises(pytest.fail.Exception, match=r"case 1; repeat with: .*\.bin 0\n"):
        run_cases(driver, cases, tmp_path)
    (kept,) = (tmp_path / "kept").iterdir()
    again = run_driver([str(driver)], kept, env=ENVIRONMENT)
    assert again.returncode == 1
    assert "output 0, element 0: " in again.stdout
