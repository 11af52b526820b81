"""What the doctor says of compiler, targets and emulator."""

import pytest

from pruneaug_cli.app import doctor
from pruneaug_cli.kernels.native import Compiler


def test_it_names_the_compiler_and_what_it_builds_for():
    compiler = Compiler()
    if reason := compiler.why_unavailable():
        pytest.skip(reason)
    found = doctor._compiler(compiler).found
    assert found.startswith(compiler.version())
    assert "builds for native, " in found


def test_a_missing_compiler_is_an_illness(tmp_path):
    check = doctor._compiler(Compiler([str(tmp_path / "nowhere")], tmp_path))
    assert check.status == "failed"
    assert "nowhere" in check.found
    assert "PRUNEAUG_CC" in (check.hint or "")


def test_an_emulator_is_only_wanted(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    check = doctor._emulator()
    assert check.status == "missing"
    assert "qemu-user-static" in (check.hint or "")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name)
    assert doctor._emulator().found == "qemu-aarch64"
