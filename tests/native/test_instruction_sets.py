"""One library, several instruction sets: each is right, and the processor or the user picks."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pruneaug_cli.kernels.native import Compiler
from pruneaug_cli.kernels.native.compiler import SOURCES
from pruneaug_cli.kernels.native.library import Library
from pruneaug_cli.kernels.native.targets import TARGETS, host_machine
from tests.native.cases import DRIVER, build_driver, checked_cases, run_driver, write_cases

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("instruction-sets")]
X86 = [variant.name for variant in TARGETS["x86-64"].variants]
ZIG = (sys.executable, "-m", "ziglang", "cc")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    path = tmp_path_factory.mktemp("cases") / "cases.bin"
    write_cases(path, checked_cases(seed=3))
    return path


@pytest.fixture(scope="module")
def few_cases(tmp_path_factory):
    """Every fourth, for emulators, which are slow."""
    path = tmp_path_factory.mktemp("cases") / "few.bin"
    write_cases(path, checked_cases(seed=3)[::4])
    return path


@pytest.fixture(scope="module")
def zig():
    compiler = Compiler(ZIG)
    if reason := compiler.why_unavailable():
        pytest.skip(reason)
    return compiler


@pytest.fixture(scope="module")
def library(zig):
    if host_machine() != "x86_64":
        pytest.skip(
            f"a library with several instruction sets is for x86_64, this is {host_machine()}"
        )
    return zig.for_target("x86-64").build()


@pytest.fixture(scope="module")
def driver(library, tmp_path_factory):
    """The driver alone; it loads the library."""
    made = tmp_path_factory.mktemp("driver") / "driver"
    rpath = f"-Wl,-rpath,{library.parent}"
    command = [
        *ZIG,
        f"-I{SOURCES}",
        str(DRIVER),
        str(library),
        rpath,
        "-pthread",
        "-mcpu=baseline",
        "-o",
        str(made),
    ]
    subprocess.run(command, check=True, env=dict(Compiler(ZIG)._environment_items()))  # noqa: S603 - our own sources
    return made


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("isa", X86)
def test_every_instruction_set_gives_the_right_answers(driver, cases, isa):
    done = run_driver([str(driver)], cases, env={"PRUNEAUG_ISA": isa})
    if "this processor does not have it" in done.stdout:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert last_line(done).startswith(f"{isa}: 0 refused")


@pytest.mark.parametrize(
    ("processor", "isa"), [("Nehalem", "sse"), ("SandyBridge", "sse"), ("Haswell", "avx2")]
)
def test_an_older_processor_gets_what_it_has(driver, few_cases, processor, isa):
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("needs qemu-x86_64, of the Debian package qemu-user or qemu-user-static")
    done = run_driver([emulator, "-cpu", processor, str(driver)], few_cases)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert last_line(done).startswith(f"{isa}: 0 refused")


def test_neon_gives_the_right_answers(zig, cases, few_cases, tmp_path):
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None and host_machine() != "aarch64":
        pytest.skip("needs qemu-aarch64, of the Debian package qemu-user or qemu-user-static")
    environment = dict(zig._environment_items())
    flags = ("-target", "aarch64-linux-musl", "-static", "-O3", "-ffp-contract=fast")
    made = tmp_path / "driver"
    build_driver(ZIG, (*flags, "-fno-sanitize=undefined"), made, env=environment)
    done = run_driver([*([emulator] if emulator else []), str(made)], cases)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert last_line(done).startswith("neon: 0 refused")
    shared = run_driver([*([emulator] if emulator else []), str(made)], few_cases, threads=2)
    assert shared.returncode == 0, shared.stdout[-500:] + shared.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("neon", "PRUNEAUG_ISA=neon: this library holds avx512, avx2, sse"),
        ("x" * 60, f"PRUNEAUG_ISA={'x' * 32}: this library holds avx512, avx2, sse"),
    ],
)
def test_an_instruction_set_that_is_not_there_is_refused(driver, cases, name, message):
    done = run_driver([str(driver)], cases, env={"PRUNEAUG_ISA": name})
    assert done.returncode == 1
    assert f"refused: '{message}'" in done.stdout
    assert last_line(done).startswith("none: ")


_IN_SESSION = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np
    from pruneaug_cli.export import region_model
    from pruneaug_cli.kernels.program import Linear, RegionProgram, Rows, Weight
    from pruneaug_cli.runtime import open_session

    weight = Weight("w", np.eye(8, dtype=np.float32))
    model = region_model(RegionProgram((Rows(8),), (Linear(0, 0),), (1,), (weight,), ()))
    session = open_session(model.SerializeToString(), library=Path(sys.argv[1]))
    print(session.run([np.ones((1, 8), np.float32)])[0].tolist())
    """
)


def in_session(library: Path, isa: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", _IN_SESSION, str(library)], capture_output=True, text=True,
        check=False, env={**os.environ, "PRUNEAUG_ISA": isa},
    )  # fmt: skip


def test_the_choice_holds_inside_onnx_runtime(library):
    done = in_session(library, "sse")
    assert json.loads(done.stdout) == [[1.0] * 8]
    done = in_session(library, "mmx")
    assert done.returncode != 0
    assert (
        "pruneaug: node 'Region0': PRUNEAUG_ISA=mmx: this library holds avx512, avx2, sse"
        in done.stderr
    )


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "native"])
def test_every_target_links(zig, target):
    made = zig.for_target(target).build()
    machine = int.from_bytes(made.read_bytes()[18:20], "little")  # e_machine of the ELF header
    assert machine == {"x86_64": 62, "aarch64": 183}[TARGETS[target].machine]
    assert f"ops-{target}-" in made.name
    if TARGETS[target].machine == host_machine():
        assert Library(made).isa in {*(v.name for v in TARGETS[target].variants), "none"}


def test_a_library_needs_no_new_system(zig):
    """The oldest glibc that ONNX Runtime itself runs on."""
    for target in ("x86-64", "aarch64-linux-gnu"):
        content = zig.for_target(target).build().read_bytes()
        versions = {
            tuple(map(int, text.split(b"\0")[0].split(b".")))
            for text in content.split(b"GLIBC_")[1:]
            if text[:1].isdigit()
        }
        assert versions
        assert max(versions) <= (2, 27)
