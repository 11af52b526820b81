"""Where tasks live: every kind of address, and every way it can be wrong."""

import sys

import pytest

from pruneaug_cli.errors import TaskError, UnsupportedError
from pruneaug_cli.tasks import load_task
from pruneaug_cli.tasks import requirement as requirement_module
from pruneaug_cli.tasks.address import short_name
from pruneaug_cli.tasks.requirement import require

pytestmark = pytest.mark.usefixtures("same_imports_afterwards")

PLAIN = "def evaluate(model, device):\n    return 0.5\n"


@pytest.fixture
def write(tmp_path):
    def write(name, text=PLAIN):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return write


def test_a_file_is_a_task(write):
    task = load_task(str(write("task.py")))
    assert task.has("evaluate")
    assert not task.has("test")


def test_an_object_in_a_file_is_a_task(write):
    text = "class Small:\n    def evaluate(self, *_):\n        return 0.5\nsmall = Small()\n"
    task = load_task(f"{write('nets.py', text)}:small")
    assert task.has("evaluate")
    assert task.name == "small"


def test_a_module_is_a_task(write, tmp_path, monkeypatch):
    write("taskpack/digits.py")
    monkeypatch.chdir(tmp_path)
    task = load_task("taskpack.digits")
    assert task.has("evaluate")
    assert task.name == "digits"


def test_a_task_does_not_replace_a_module_of_its_name(write):
    import json

    load_task(str(write("json.py")))
    assert sys.modules["json"] is json


def test_a_task_imports_its_neighbours_at_once_and_later(write):
    write("neighbour_a.py", "answer = 1\n")
    write("neighbour_b.py", "answer = 2\n")
    task = load_task(
        str(
            write(
                "task.py",
                "import neighbour_a\n"
                "def evaluate(model, device):\n"
                "    import neighbour_b\n"
                "    return neighbour_a.answer + neighbour_b.answer\n",
            )
        )
    )
    from torch import nn

    assert task.evaluate(nn.Identity(), "cpu") == 3


def test_the_folder_of_a_task_hides_no_installed_package(write, tmp_path):
    load_task(str(write("task.py")))
    assert sys.path.index(str(tmp_path)) == len(sys.path) - 1


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("builtin:digits-cnn", "digits-cnn"),
        ("/data/my net/task.py", "my-net"),
        ("train.py", "train"),
        ("a/b.py:Small", "Small"),
        ("package.module", "module"),
    ],
)
def test_a_name_suits_a_folder(address, name):
    assert short_name(address) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x = 1\nimport missing\n",
            r"task\.py:2: the task cannot be imported: ModuleNotFoundError: No .*'missing'$",
        ),
        ("x = 1\n\ndef f(:\n", r"task\.py:3: syntax error: "),
        ("raise ValueError('a\\nb')\n", r":1: the task cannot be imported: ValueError: a$"),
        ("import sys\nsys.exit(3)\n", r":2: the task cannot be imported: SystemExit: 3$"),
    ],
    ids=["import", "syntax", "raise", "exit"],
)  # fmt: skip
def test_an_import_that_fails_is_one_line_with_its_cause(write, text, message):
    path, before = write("task.py", text), set(sys.modules)
    with pytest.raises(TaskError, match=message) as caught:
        load_task(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    left = sys.modules.keys() - before
    assert not any(name.startswith("_pruneaug_task_") for name in left)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere/task.py", r"^nowhere/task\.py: no such file; expected a task file$"),
        ("no_package.task", r"^no_package\.task: no module named 'no_package'$"),
        ("json.no_module", r"^json\.no_module: no module named 'json\.no_module'$"),
        ("a file.txt", r"^'a file\.txt' is not the address of a task$"),
        ("", r"^'' is not the address of a task$"),
    ],
)
def test_an_address_of_nothing_is_refused(address, message):
    with pytest.raises(TaskError, match=message) as caught:
        load_task(address)
    assert caught.value.hint == (
        "expected path/task.py, file.py:object, package.module or builtin:NAME"
    )


def test_a_folder_is_not_a_task(tmp_path):
    (tmp_path / "task.py").mkdir()
    with pytest.raises(TaskError, match=r"task\.py: is a folder; expected a task file"):
        load_task(str(tmp_path / "task.py"))


def test_a_missing_object_is_named_with_its_neighbour(write):
    path = write("nets.py", "small_net = 1\n")
    with pytest.raises(TaskError, match=r"nets\.py: has no object 'smallnet'") as caught:
        load_task(f"{path}:smallnet")
    assert caught.value.hint == "did you mean 'small_net'?"


def test_an_unknown_builtin_is_refused_with_the_nearest():
    with pytest.raises(UnsupportedError, match="unknown built-in task 'digit-cnn'") as caught:
        load_task("builtin:digit-cnn")
    assert caught.value.hint == "did you mean 'digits-cnn'?"


def test_a_missing_package_is_refused_with_the_command_that_installs_it():
    message = "^the demo needs the package 'no_package', which is not installed$"
    with pytest.raises(UnsupportedError, match=message) as caught:
        require("no_package.part", extra="demo", purpose="the demo")
    assert caught.value.hint == "pip install 'pruneaug[demo]'"


def test_a_package_that_lacks_another_shows_the_real_cause(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'inner'", name="inner")

    monkeypatch.setattr(requirement_module.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="inner"):
        require("outer", extra="demo", purpose="the demo")
