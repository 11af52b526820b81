"""The program run in this process, with use cases that answer at once."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest

from pruneaug_cli.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``pruneaug WORDS`` and return its exit code, stdout and stderr."""

    def run(*words: str) -> Outcome:
        with pytest.raises(SystemExit) as exit_:
            main(words)
        captured = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return Outcome(exit_.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def replace_use_case(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a function in the place of ``app.<module>.<name>``; the module is not imported."""

    def replace(module: str, name: str, function: Callable[..., object]) -> None:
        path = f"pruneaug_cli.app.{module}"
        fake = ModuleType(path)
        setattr(fake, name, function)
        monkeypatch.setitem(sys.modules, path, fake)

    return replace
