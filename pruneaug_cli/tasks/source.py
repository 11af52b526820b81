"""What a task is written in: its file, and what that imports from the same folder.

The imports are read, not run, so the answer is the same whatever else a process has loaded. Those
inside functions count as well; what is loaded by other means than ``import`` is not seen.
"""

import ast
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from pruneaug_cli.files import digest_bytes, digest_file, digest_text

_INSTALLED = ("site-packages", "dist-packages")
_STANDARD_LIBRARY = Path(inspect.__file__).parent


def source_file(task: object) -> str | None:
    """The file that a task is written in; None where it has none."""
    owner = task if isinstance(task, ModuleType | type) else type(task)
    try:
        return inspect.getsourcefile(owner)
    except (TypeError, OSError):  # built in; of an interactive session
        return None


def source_digest(task: object) -> str:
    """SHA-256 of a task's file and of the modules under its folder that it imports, at any depth.

    Of nothing where it has no file.
    """
    path = source_file(task)
    if path is None or not Path(path).is_file():
        return digest_bytes()
    file = Path(path).absolute()
    named = {helper.relative_to(file.parent).as_posix(): helper for helper in _helpers(file)}
    helpers = [text for name in sorted(named) for text in (name, digest_file(named[name]))]
    return digest_text(digest_file(file), *helpers) if helpers else digest_file(file)


def _helpers(task: Path) -> set[Path]:
    """Files that a task's file imports, and those that these import, under its folder."""
    seen, waiting = {task}, [task]
    if task.parent.name in _INSTALLED or task.parent == _STANDARD_LIBRARY:
        return set()  # its neighbours have nothing to do with it
    while waiting:
        for found in _imported(waiting.pop(), task):
            if found not in seen and found.is_file():
                seen.add(found)
                waiting.append(found)
    return seen - {task}


def _imported(file: Path, task: Path) -> Iterator[Path]:
    """Where the modules that a file imports would lie under the task's folder."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):  # it is imported late, if ever, and fails then
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            names, level = [alias.name.split(".") for alias in node.names], 0
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            names, level = [[*module, alias.name] for alias in node.names], node.level
        else:
            continue
        # an absolute name begins at the folder, or above it: the task may be part of a package
        roots = file.parents[level - 1 : level] if level else task.parents
        found = (path for root in roots for name in names for path in _files(root, name))
        yield from (path for path in found if path.is_relative_to(task.parent))


def _files(root: Path, name: Sequence[str]) -> Iterator[Path]:
    """Files that may be run for a dotted name: of every package on the way, and of the module."""
    yield root / "__init__.py"
    for length in range(1, len(name) + 1):
        path = root.joinpath(*name[:length])
        yield path / "__init__.py"
        yield path.with_name(f"{path.name}.py")
