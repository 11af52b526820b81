"""Where a task lives: ``path/task.py``, ``file.py:object``, ``package.module``, ``builtin:NAME``.

Whatever the address, the result is an object that has the task's functions as attributes.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from pruneaug_cli.errors import TaskError
from pruneaug_cli.registry import nearest
from pruneaug_cli.tasks.builtin import BUILTIN_TASKS
from pruneaug_cli.tasks.failure import cause, innermost

_BUILTIN = "builtin:"
_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>[^:/\\]+))?")
_MODULE = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*)(?::(?P<name>\w+))?")
_FORMS = "expected path/task.py, file.py:object, package.module or builtin:NAME"


def builtin_name(address: str) -> str | None:
    """Return NAME of ``builtin:NAME``, and None for any other address."""
    return address.removeprefix(_BUILTIN) if address.startswith(_BUILTIN) else None


def short_name(address: str) -> str:
    """Return a name for run directories: letters, digits, ``-``, ``_`` and ``.`` only.

    A file that is called ``task.py`` goes by the name of its folder.

    Example:
        >>> [short_name(a) for a in ("builtin:digits-cnn", "nets/cifar/task.py", "a/b.py:Small")]
        ['digits-cnn', 'cifar', 'Small']
    """
    if found := _FILE.fullmatch(address):
        path = Path(found["path"])
        plain = path.resolve().parent.name if path.stem == "task" else path.stem
        name = found["name"] or plain
    else:
        name = address.rpartition(":")[2].rpartition(".")[2]
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.") or "task"


def resolve(address: str) -> object:
    """Import what the address names.

    Raises:
        TaskError: no such file, module or object, or its import fails; the message has the cause.
        UnsupportedError: no built-in task has this name.
    """
    if (builtin := builtin_name(address)) is not None:
        return BUILTIN_TASKS.create(builtin)
    if found := _FILE.fullmatch(address):
        return _attribute(_import_file(Path(found["path"])), found["path"], found["name"])
    if found := _MODULE.fullmatch(address):
        return _attribute(_import_module(found["module"]), found["module"], found["name"])
    raise TaskError(f"{address!r} is not the address of a task", hint=_FORMS)


def _attribute(module: ModuleType, where: str, name: str | None) -> object:
    if name is None:
        return module
    if not hasattr(module, name):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise TaskError(f"{where}: has no object {name!r}", hint=nearest(name, public))
    return getattr(module, name)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise TaskError(f"{path}: {found}; expected a task file", hint=_FORMS)
    path = path.resolve()
    # a private name: a task called json.py must not stand in for the json module
    name = f"_pruneaug_task_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path}: cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        with _on_import_path(path.parent), _translated(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    with _on_import_path(Path.cwd()), _translated(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there; something that it imports is not
            raise TaskError(f"{name}: no module named {error.name!r}", hint=_FORMS) from error


@contextlib.contextmanager
def _on_import_path(folder: Path) -> Iterator[None]:
    """Let a task import its neighbours, as a script may.

    While it is imported its folder comes first; later, for the imports inside its functions, last,
    so that it does not hide installed packages from the rest of the program.
    """
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
        if entry not in sys.path:
            sys.path.append(entry)


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn whatever goes wrong while a task is imported into one line with its place and cause."""
    try:
        yield
    except TaskError:
        raise
    except SyntaxError as error:
        place = f"{where if error.filename is None else error.filename}:{error.lineno}"
        raise TaskError(f"{place}: syntax error: {error.msg}") from error
    except (Exception, SystemExit) as error:
        frame = innermost(error, {where})
        place = where if frame is None else f"{where}:{frame.lineno}"
        raise TaskError(f"{place}: the task cannot be imported: {cause(error)}") from error
