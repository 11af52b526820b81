"""Name → factory, for everything a user picks by name: back ends, criteria, strategies.

Built-ins are listed by hand in one place; costly ones by dotted path, imported when asked for.
"""

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar, cast

from pruneaug_cli.errors import UnsupportedError

T = TypeVar("T")


class Registry(Generic[T]):
    """An immutable index of named factories.

    A factory is a callable without arguments, or its dotted path ``"package.module:Name"``.
    """

    def __init__(self, kind: str, factories: Mapping[str, Callable[[], T] | str]) -> None:
        self._kind = kind
        self._factories = dict(factories)

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def create(self, name: str) -> T:
        """Make the object registered as ``name``.

        Raises:
            UnsupportedError: nothing has this name; the nearest name is the hint.
        """
        if name not in self._factories:
            raise UnsupportedError(f"unknown {self._kind} {name!r}", hint=nearest(name, self))
        factory = self._factories[name]
        made = _resolve(factory) if isinstance(factory, str) else factory
        return cast("T", made())


def nearest(name: str, known: "Registry[T] | Mapping[str, object] | list[str]") -> str:
    """Return a hint that names what was probably meant, or else everything there is.

    Example:
        >>> nearest("knapsak", ["knapsack", "tpe"])
        "did you mean 'knapsack'?"
        >>> nearest("qqq", ["knapsack", "tpe"])
        'known: knapsack, tpe'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def _resolve(path: str) -> Callable[[], object]:
    module, _, attribute = path.partition(":")
    return cast("Callable[[], object]", getattr(importlib.import_module(module), attribute))
