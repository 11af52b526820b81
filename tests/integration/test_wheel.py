"""A wheel holds all that the tool needs at run time: nothing is read from a checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools")
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pruneaug_cli"


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Of the files in a wheel, built from a copy: building leaves files behind."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("pruneaug_cli", "platforms"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "--wheel-dir", str(copy), str(copy),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    (wheel,) = copy.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_holds_every_module(names):
    assert names >= {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
    assert "pruneaug_cli/py.typed" in names


def test_it_holds_the_sources_of_the_kernels(names):
    sources = PACKAGE / "kernels" / "native" / "src"
    assert names >= {str(path.relative_to(ROOT)) for path in sources.iterdir()}


def test_it_holds_the_weights_of_built_in_tasks(names):
    weights = list(PACKAGE.rglob("*.safetensors"))
    assert weights
    assert names >= {str(path.relative_to(ROOT)) for path in weights}


def test_it_holds_the_measured_platforms_where_they_are_looked_for(names):
    for path in (ROOT / "platforms").glob("*.json"):
        assert any(name.endswith(f"data/share/pruneaug/platforms/{path.name}") for name in names)
