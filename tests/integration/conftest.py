"""A measured profile of this machine for the small digits network, and the program in process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pruneaug_cli.app.profile import run_profile
from pruneaug_cli.app.requests import ProfileRequest
from pruneaug_cli.cli import main

TASK = "builtin:digits-mini"


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``pruneaug WORDS`` in this process, nothing replaced."""

    def run(*words: str | Path) -> Outcome:
        torch.set_num_threads(1)
        with pytest.raises(SystemExit) as exit_:
            main([str(word) for word in words])
        captured = capfd.readouterr()
        assert isinstance(exit_.value.code, int)
        return Outcome(exit_.value.code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def mini_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network profiled on this machine: two blocks, three sparsities."""
    path = tmp_path_factory.mktemp("platforms") / "here.json"
    request = ProfileRequest(
        platform="here", task=TASK, out=path, budget_s=1.0,
        blocks=("8x1", "16x1"), sparsities=(0.5, 0.8, 0.95),
    )  # fmt: skip
    run_profile(request)
    return path
