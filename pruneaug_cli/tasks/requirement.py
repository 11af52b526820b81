"""The one door to packages that only some tasks need."""

import importlib
from types import ModuleType

from pruneaug_cli.errors import UnsupportedError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import ``module``, which comes with the extra ``extra`` of pruneaug.

    Raises:
        UnsupportedError: the package is not installed; the hint is the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is there, but something it needs is not: show the real cause
        raise UnsupportedError(
            f"{purpose} needs the package {package!r}, which is not installed",
            hint=f"pip install 'pruneaug[{extra}]'",
        ) from error
