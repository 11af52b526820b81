"""The compiler's cache key, its refusals and the evidence it leaves."""

import os
import re
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pruneaug_cli.core import BlockShape, ConvGeometry, LinearGeometry
from pruneaug_cli.errors import ToolchainError, UnsupportedError
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.kernels.native import Compiler, NativeBackend
from pruneaug_cli.kernels.native.compiler import SOURCES, _names
from pruneaug_cli.kernels.native.targets import host_machine

_SHARED_DEFINITION = re.compile(
    r"^(?!static|typedef|PA_INLINE|enum|struct|extern)[a-z][\w ]*?[ *](\w+)\([^;]*?\) \{",
    re.MULTILINE,
)


@pytest.fixture
def fake(tmp_path):
    """A "compiler" that copies its own name into the target, or fails when told to."""

    def make(version: str = "cc 1.0", *, fail: str = "") -> Path:
        path = tmp_path / f"cc-{version.replace(' ', '-')}"
        path.write_text(
            f"#!{sys.executable}\n"
            "import pathlib, sys\n"
            "if '--version' in sys.argv:\n"
            f"    print({version!r}); sys.exit(0)\n"
            f"if {fail!r}:\n"
            f"    print({fail!r}, file=sys.stderr); sys.exit(1)\n"
            "pathlib.Path(sys.argv[sys.argv.index('-o') + 1]).write_text(' '.join(sys.argv))\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


def test_a_library_is_built_once(fake, tmp_path):
    compiler = Compiler([str(fake())], tmp_path / "cache")
    first = compiler.build()
    written = first.stat().st_mtime_ns
    assert compiler.build() == first
    assert first.stat().st_mtime_ns == written
    assert first.name == f"pruneaug_ops-{compiler.key()}.so"


def test_other_sources_make_another_library(fake, tmp_path):
    command, sources = [str(fake())], tmp_path / "sources"
    shutil.copytree(SOURCES, sources)
    usual = Compiler(command, tmp_path / "cache")
    other = Compiler(command, tmp_path / "cache", sources=sources)
    assert other.key() == usual.key()
    (sources / "pack.c").write_text("// nothing\n")
    assert other.key() != usual.key()
    assert str(SOURCES) not in other.build().read_text()


def test_the_key_covers_the_compiler(fake, tmp_path):
    old, new = (Compiler([str(fake(v))], tmp_path / "cache") for v in ("cc 1.0", "cc 2.0"))
    assert old.key() != new.key()


def test_the_key_does_not_tell_where_the_compiler_is_installed(fake, tmp_path):
    here = fake()
    there = tmp_path / "elsewhere" / here.name
    there.parent.mkdir()
    shutil.copy(here, there)
    first, second = (Compiler([str(path)], tmp_path / "cache") for path in (here, there))
    assert first.key() == second.key()
    assert Compiler([str(here), "-Og"], tmp_path / "cache").key() != first.key()


def test_two_builds_at_once_leave_one_whole_library(fake, tmp_path):
    compiler = Compiler([str(fake())], tmp_path / "cache")
    with ThreadPoolExecutor(4) as pool:
        built = set(pool.map(lambda _: compiler.build(), range(4)))
    (library,) = built
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {library.name, ".lock"}


def test_two_targets_are_two_libraries(fake, tmp_path):
    native = Compiler([str(fake())], tmp_path / "cache")
    other = native.for_target("x86-64" if host_machine() == "x86_64" else "aarch64-linux-gnu")
    assert native.build() != other.build()
    assert other.build().name == f"pruneaug_ops-{other.target.name}-{other.key()}.so"


def test_an_unknown_target_is_refused_with_those_there_are():
    known = "known: native, x86-64, x86-64-v3, x86-64-v4, aarch64-linux-gnu"
    with pytest.raises(UnsupportedError, match="unknown target 'sparc'") as error:
        Compiler(target="sparc")
    assert error.value.hint == known
    with pytest.raises(UnsupportedError, match="unknown target 'x86-64-v2'") as error:
        Compiler(target="x86-64-v2")
    assert error.value.hint == f"did you mean 'x86-64-v4'? {known}"


def test_a_compiler_that_cannot_cross_compile_is_told(fake, tmp_path):
    foreign = "x86-64" if host_machine() == "aarch64" else "aarch64-linux-gnu"
    compiler = Compiler([str(fake())], tmp_path / "cache", foreign)
    with pytest.raises(UnsupportedError, match=f"only, not for {foreign}") as error:
        compiler.build()
    assert error.value.hint == "unset PRUNEAUG_CC to cross-compile with ziglang"


def test_each_variant_has_names_of_its_own():
    header = _names("avx2")
    assert "#define pa_region_create pa_avx2_region_create\n" in header
    assert "#define pa_pack pa_avx2_pack\n" in header


def test_everything_the_sources_share_can_be_renamed():
    """What is not called pa_ would clash when a library holds the engine twice."""
    for path in SOURCES.glob("*.c"):
        if path.name in ("dispatch.c", "ort_op.c"):
            continue
        for name in _SHARED_DEFINITION.findall(path.read_text("utf-8")):
            assert name.startswith("pa_"), f"{path.name}: {name} is neither static nor pa_"


def test_the_dispatcher_forwards_the_whole_interface():
    header = (SOURCES / "region.h").read_text("utf-8")
    dispatcher = (SOURCES / "dispatch.c").read_text("utf-8")
    functions = re.findall(r"^PA_EXPORT [^;(]*?(pa_\w+)\(", header, flags=re.MULTILINE)
    assert len(functions) > 10
    for name in functions:
        assert re.search(rf"^[\w ]+ \**{name}\(", dispatcher, flags=re.MULTILINE), name


def test_a_failure_says_why_and_how_to_repeat_it(fake, tmp_path):
    compiler = Compiler([str(fake(fail="x.c:3:1: error: no"))], tmp_path / "cache")
    with pytest.raises(ToolchainError, match=r"rejected the kernels .*: x\.c:3:1: error: no") as e:
        compiler.build()
    assert e.value.hint is not None
    assert e.value.hint.startswith(f"repeat with: {tmp_path}")
    (evidence,) = (tmp_path / "cache").glob("failed-*/errors.txt")
    assert "x.c:3:1: error: no" in evidence.read_text()
    repeated = subprocess.run(  # noqa: S602 - the hint is for a shell
        e.value.hint.removeprefix("repeat with: "), shell=True, capture_output=True, check=False
    )
    assert b"x.c:3:1: error: no" in repeated.stderr
    (header,) = (tmp_path / "cache").glob("failed-*/native.h")
    assert f"-include {header}" in e.value.hint


def test_a_missing_compiler_is_named(tmp_path):
    compiler = Compiler([str(tmp_path / "nowhere")], tmp_path / "cache")
    assert "nowhere" in (compiler.why_unavailable() or "")
    with pytest.raises(ToolchainError, match="nowhere") as error:
        compiler.build()
    assert "PRUNEAUG_CC" in (error.value.hint or "")


def test_the_environment_names_compiler_and_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNEAUG_CC", "clang --target=x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = Compiler()
    assert compiler.command == ("clang", "--target=x")
    assert compiler.cache == tmp_path / "pruneaug" / "kernels"


def test_the_library_holds_engine_and_operators(library):
    content = library.read_bytes()
    assert b"pa_region_create" in content
    assert b"RegisterCustomOps" in content


def test_importing_the_back_ends_starts_no_compiler():
    code = "import pruneaug_cli.kernels as k; k.BACKENDS.create('native')"
    env = {**os.environ, "PRUNEAUG_CC": "/nowhere"}
    done = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", code], env=env, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_reference_has_no_operators():
    with pytest.raises(UnsupportedError, match="has no ONNX Runtime operators"):
        BACKENDS.create("reference").operator_library()


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (LinearGeometry(1 << 25, 1, 1), "exceeds 16777216 rows or columns"),
        (ConvGeometry(1, 1, (1, 1), (9, 9), (5000, 1)), "end at 4096"),
        (ConvGeometry(4096, 1, (1, 1), (1024, 1024)), "exceeds 268435456"),
    ],
)
def test_sizes_beyond_the_engine_are_named(geometry, message):
    assert message in (NativeBackend().why_unsupported(geometry, BlockShape(8, 1)) or "")
