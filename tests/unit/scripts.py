"""Scripts of ``benchmarks/``, run in this process."""

import sys
from pathlib import Path
from types import ModuleType

import pytest


def run_script(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of a script's ``main``."""
    monkeypatch.setattr(sys, "argv", [_name(script), *arguments])
    try:
        script.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def require_refusal(script: ModuleType, printed: str, message: str) -> None:
    """One line says what is wrong, in the script's name; only hints may follow."""
    first, *rest = printed.splitlines()
    assert first.startswith(f"{_name(script)}: error: {message}")
    assert all(line.startswith("  hint: ") for line in rest)


def _name(script: ModuleType) -> str:
    return Path(str(script.__file__)).name
