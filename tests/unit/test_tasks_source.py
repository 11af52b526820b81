"""What a task is written in: which changes of files are changes of the task."""

import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest

from pruneaug_cli.files import digest_file
from pruneaug_cli.tasks import load_task
from pruneaug_cli.tasks.source import source_digest


class Here:
    """A task of this file."""


@pytest.fixture(autouse=True)
def _without_bytecode(same_imports_afterwards, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # else edits within a second go unseen


@pytest.fixture
def write(tmp_path):
    def write(name, text="x = 1\n"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return write


def digest_of(address):
    return load_task(str(address)).source_digest


def test_the_source_of_a_task_is_told_by_its_file(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    typed = type("Typed", (), {"__module__": "__main__"})  # as in a notebook
    nowhere = [source_digest(task) for task in (typed, typed())]
    assert len(set(nowhere)) == 1
    here, module = source_digest(Here()), sys.modules[__name__]
    assert here == source_digest(Here) == source_digest(module) != nowhere[0]


def test_a_task_without_neighbours_is_its_file(write):
    path = write("task.py", "import json\nfrom torch import nn\n")
    write("neighbour.py")
    assert digest_of(path) == digest_file(path)


@pytest.mark.parametrize(
    ("line", "helper"),
    [
        ("import neighbour", "neighbour.py"),
        ("import json, neighbour as other", "neighbour.py"),
        ("from neighbour import x", "neighbour.py"),
        ("from neighbour import *", "neighbour.py"),
        ("import neighbours.deep.net", "neighbours/deep/net.py"),
        ("import neighbours.deep.net", "neighbours/__init__.py"),
        ("from neighbours.deep import net", "neighbours/deep/net.py"),
        ("from neighbours import x", "neighbours/__init__.py"),
        ("def evaluate(model, device):\n    import neighbour", "neighbour.py"),
    ],
)
def test_a_module_that_a_task_imports_from_its_folder_is_part_of_it(write, line, helper):
    for name in ("neighbour.py", "neighbours/__init__.py", "neighbours/deep/net.py"):
        write(name)
    path = write("task.py", f"{line}\n")
    before = digest_of(path)
    write("unrelated.py")
    assert digest_of(path) == before
    write(helper, "x = 2\n")
    assert digest_of(path) != before


@pytest.mark.parametrize(
    "line", ["from .net import x", "from . import net", "from ..deep.net import x"]
)
def test_what_a_neighbour_imports_is_part_of_the_task_too(write, line):
    write("neighbours/deep/other.py", f"{line}\n")
    write("neighbours/deep/net.py", "import neighbour_d\nfrom .other import *\n")  # a circle
    write("neighbour_d.py")
    path = write("task.py", "def evaluate(*_):\n    import neighbours.deep.other\n")
    before = digest_of(path)
    write("neighbour_d.py", "x = 2\n")
    assert digest_of(path) != before


@pytest.mark.parametrize(
    ("line", "helper"),
    [
        ("from taskpack.neighbour import x", "taskpack/neighbour.py"),
        ("from .neighbour import x", "taskpack/neighbour.py"),
        ("from . import x", "taskpack/__init__.py"),
    ],
)
def test_a_task_in_a_package_names_its_neighbours_by_the_package(
    write, tmp_path, monkeypatch, line, helper
):
    write("taskpack/__init__.py")
    write("taskpack/neighbour.py")
    write("taskpack/digits.py", f"{line}\n")
    monkeypatch.chdir(tmp_path)
    task = sys.modules["taskpack.digits"] if load_task("taskpack.digits") else None
    before = source_digest(task)
    write("taskpack.py", "beside the folder, not in it\n")
    assert source_digest(task) == before
    write(helper, "x = 2\n")
    assert source_digest(task) != before


def test_a_neighbour_is_told_by_its_name_too(write):
    path = write("task.py", "def f():\n    import neighbour_a, neighbour_b\n")
    helper = write("neighbour_a.py")
    before = digest_of(path)
    helper.rename(helper.with_name("neighbour_b.py"))
    assert digest_of(path) != before


def test_a_neighbour_that_is_no_python_is_still_part_of_the_task(write):
    path = write("task.py", "def f():\n    import neighbour\n")
    write("neighbour.py", "def f(:\n")
    before = digest_of(path)
    write("neighbour.py", "def f(::\n")
    assert digest_of(path) != before


def test_installed_packages_are_no_neighbours(write):
    assert source_digest(SimpleNamespace()) == digest_file(Path(types.__file__))
    path = write("site-packages/task.py", "import neighbour\n")
    write("site-packages/neighbour.py")
    assert digest_of(path) == digest_file(path)


def test_every_process_finds_the_same_whatever_it_has_loaded(write):
    write("neighbours/__init__.py", "from neighbours import a, b\n")
    write("neighbours/a.py")
    write("neighbours/b.py")
    path = write("task.py", "import neighbours\n")
    found = {digest_of(path), digest_of(path)}
    script = (
        "import sys\n"
        "from pruneaug_cli.tasks import load_task\n"
        "print(load_task(sys.argv[1]).source_digest)\n"
    )
    other = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", script, path], check=True, capture_output=True, text=True
    )
    assert found == {other.stdout.strip()}
