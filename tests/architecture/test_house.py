"""The house as drawn: imports, sizes, start-up, the README's map."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from pruneaug_cli.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pruneaug_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted((PACKAGE / "kernels" / "native" / "src").glob("*.[ch]"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_stay_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert _lines_of_code(node) < 50, node.name


def _lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring not counted."""
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    text = first.end_lineno - first.lineno + 1 if documented and first.end_lineno else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - text


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_c_files_stay_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 500


def _texts(tree: ast.AST) -> Iterator[str]:
    """All strings of a module; what is put into them is left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [v.value for v in node.values if isinstance(v, ast.Constant)]
            yield "…".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_messages_name_only_commands_and_options_that_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = {
        name: {"--help"} | {word for param in command.params for word in param.opts}
        for name, command in commands.items()
    }
    for path in MODULES:
        for text in _texts(ast.parse(path.read_text("utf-8"))):
            for name, rest in re.findall(r"\bpruneaug ([a-z]+)\b([^`\n]*)", text):
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest))
                assert named <= options.get(name, set()), f"{path}: {text}"


def _loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sorted(m.split('.')[0] for m in sys.modules))"
    result = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split("\n")[-2].split())


@pytest.mark.parametrize("statement", ["import pruneaug_cli", "import pruneaug_cli.cli"])
def test_starting_loads_nothing_heavy(statement: str) -> None:
    loaded = _loaded_by(statement)
    assert loaded.isdisjoint({"torch", "numpy", "onnx", "onnxruntime", "optuna", "pandas", "scipy"})


def test_the_map_names_every_room() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    named = set(re.findall(r"^\| `pruneaug_cli/(\w+)/` \|", readme, flags=re.MULTILINE))
    assert named == rooms


def test_the_library_reads_no_environment_on_import() -> None:
    for path in MODULES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                assert "environ" not in ast.dump(node), path
