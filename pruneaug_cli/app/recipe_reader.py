"""From YAML, ``--set`` and options to a checked :class:`~pruneaug_cli.app.recipe.Recipe`.

Later sources win: the file, then ``--set key=value`` in order, then the command's own options. Each
source is checked as it is laid on, so a refusal names the one to blame.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pruneaug_cli.app.durations import format_duration
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.errors import PruneaugError, RecipeError, UsageError
from pruneaug_cli.files import read_text
from pruneaug_cli.registry import nearest

Document = dict[str, Any]
_DURATIONS = {"goal.target_latency", "search.timeout"}
_TARGETS = {"target_latency": "target_speedup", "target_speedup": "target_latency"}
_EXAMPLES = {None: "--set search.trials=50", "finetune": "--set finetune.epochs=2"}


def read_recipe(
    path: Path | None,
    *,
    settings: Sequence[str] = (),
    section: Literal["finetune"] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Recipe:
    """Read a recipe and lay what the command line says over it.

    Args:
        path: the YAML file; ``None``: defaults only.
        settings: ``--set`` values, ``search.trials=50``; the value is YAML. A key part that
            contains dots is quoted: ``layers.names."block1.*".dense=true``.
        section: the only one that settings may change; ``None``: any.
        overrides: dotted key to value, durations in seconds (``SearchRequest.overrides``). A
            latency target replaces the recipe's speed-up target, and the other way round.

    Raises:
        RecipeError: the file is not YAML, or has unknown keys or values out of range; where, found
            and expected.
        UsageError: the same of a setting or an option; or a setting is not ``key=value``, or of
            another section.
    """
    document: Document = (
        {}
        if path is None
        else _load_yaml(read_text(path, kind="recipe", error=RecipeError), where=str(path))
    )
    recipe = _validate(document, where=str(path or "recipe"), refusal=RecipeError)
    for setting in settings:
        key, value = _parse_setting(setting, section)
        document = _assign(document, key, value)
        recipe = _validate(document, where="--set")
    for name, value in (overrides or {}).items():
        document = _assign(document, tuple(name.split(".")), _written(name, value))
    if not overrides:
        return recipe
    return _validate(document, where="options", hint="see: pruneaug search --help")


def _written(name: str, value: object) -> object:
    """An option's value as a recipe would have it."""
    if isinstance(value, tuple):
        return [_written(name, entry) for entry in value]
    return format_duration(value) if name in _DURATIONS and isinstance(value, float) else value


class _Loader(yaml.SafeLoader):
    """YAML with two repairs: a key given twice is refused, and ``1e-3`` is a number (YAML 1.2)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing a second entry of the same key."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, key in enumerate(keys):
            if key.value in {earlier.value for earlier in keys[:index]}:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def _load_yaml(text: str, *, where: str) -> Document:
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}: line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise RecipeError(f"{place}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise RecipeError(f"{where}: expected a mapping of settings, got {_show(document)}")
    return document


def _parse_setting(setting: str, section: str | None) -> tuple[tuple[str, ...], object]:
    match = re.fullmatch(r'((?:"[^"]+"|[^".=]+)(?:\.(?:"[^"]+"|[^".=]+))*)=(.*)', setting, re.S)
    if match is None:
        raise UsageError(
            f"--set {setting}: expected key=value", hint=f"for example: {_EXAMPLES[section]}"
        )
    key = tuple(part.strip('"') for part in re.findall(r'"[^"]+"|[^".]+', match[1]))
    if section not in (None, key[0]):
        raise UsageError(
            f"--set {setting}: expected a setting of {section}",
            hint=f"for example: {_EXAMPLES[section]}; pruneaug search and run take the others",
        )
    try:
        return key, yaml.load(match[2], _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise UsageError(f"--set {setting}: the value is not YAML") from error


def _assign(document: Document, key: tuple[str, ...], value: object) -> Document:
    """Return a copy in which ``key`` has ``value``; a target clears the other kind of target."""
    changed = copy.deepcopy(document)
    inner = changed
    for part in key[:-1]:
        if not isinstance(inner.get(part), dict):
            inner[part] = {}
        inner = inner[part]
    inner[key[-1]] = value
    if key[0] == "goal" and key[-1] in _TARGETS and value is not None:
        inner.pop(_TARGETS[key[-1]], None)
    return changed


def _validate(
    document: Document,
    *,
    where: str,
    refusal: type[PruneaugError] = UsageError,
    hint: str | None = None,
) -> Recipe:
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = _place(document, first["loc"])
        path = ".".join(map(str, place))
        if first["type"] == "extra_forbidden":
            near = nearest(str(place[-1]), sorted(_known_keys(place[:-1])))
            raise refusal(f"{where}: {path}: unknown key", hint=near) from error
        message = _explain(first)
        raise refusal(": ".join(filter(None, (where, path, message))), hint=hint) from error


def _place(document: object, location: Sequence[int | str]) -> tuple[int | str, ...]:
    """Where an error is in the document; a value that may be a list and is none has no index."""
    place = []
    for part in location:
        if part == "[key]" or (isinstance(part, int) and not isinstance(document, list)):
            continue
        place.append(part)
        if isinstance(document, dict):
            document = document.get(part)
        elif isinstance(document, list) and isinstance(part, int):
            document = document[part]
    return tuple(place)


_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of settings",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "too_short": "at least one entry",
}


def _explain(error: ErrorDetails) -> str:
    """Say what was expected and what was found; our own validators say it themselves."""
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    if error["type"] not in _EXPECTED:
        return f"{error['msg']}, got {_show(error['input'])}"
    expected = _EXPECTED[error["type"]].format(**error.get("ctx", {}))
    return f"expected {expected}, got {_show(error['input'])}"


def _show(value: object) -> str:
    """A found value in one short line."""
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _known_keys(place: Sequence[int | str]) -> set[str]:
    """Keys that the section at ``place`` has."""
    model: type[BaseModel] = Recipe
    for part in place:
        model = dict(_sections(model)).get(str(part), model)
    return {field.alias or name for name, field in model.model_fields.items()}


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Fields of ``model`` that are sections, or mappings to sections, with the section's class."""
    for name, field in model.model_fields.items():
        for candidate in _alternatives(field.annotation):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                yield name, candidate


def _alternatives(annotation: object) -> Iterator[object]:
    if get_origin(annotation) in (Union, UnionType, dict):
        yield from get_args(annotation)
    else:
        yield annotation
