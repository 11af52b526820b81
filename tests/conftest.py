"""What all tests share: golden files, and the same run every time."""

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pruneaug_cli.kernels.native import NativeBackend

GOLDEN = Path(__file__).parent / "golden"

# how fast a machine is at the moment is no property of the code
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--refresh-golden", action="store_true", help="write golden files anew; review the diff"
    )


@pytest.fixture
def refresh(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written instead of compared."""
    return bool(request.config.getoption("--refresh-golden"))


@pytest.fixture
def golden(refresh: bool) -> Callable[[str, str], None]:
    """Compare a text with ``tests/golden/NAME``, or write it under ``--refresh-golden``."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if refresh:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        assert path.is_file(), f"no golden file {name}: make it with pytest --refresh-golden"
        assert text == path.read_text("utf-8")

    return check


@pytest.fixture(scope="session")
def native() -> NativeBackend:
    """Our kernels, built for this machine; skips where they cannot be."""
    backend = NativeBackend()
    if reason := backend.why_unavailable():
        pytest.skip(reason)
    return backend


@pytest.fixture(scope="session")
def library(native: NativeBackend) -> Path:
    """The library of our operators for ONNX Runtime."""
    return native.operator_library()


@pytest.fixture(autouse=True)
def _same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed the standard generator, and give help and tables one width."""
    random.seed(0)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def same_imports_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the tasks that a test loads, and the modules beside them."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith(("_pruneaug_task_", "taskpack", "neighbour")):
            del sys.modules[name]
