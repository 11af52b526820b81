"""Reading a profile: every complaint names the file, the place in it, what was found, expected."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, parse_geometry
from pruneaug_cli.errors import ProfileError
from pruneaug_cli.files import read_json
from pruneaug_cli.platforms.measurement import Measurement, PeerMeasurement
from pruneaug_cli.platforms.network import InPlace, NetworkMeasurement
from pruneaug_cli.platforms.profile import SCHEMA_VERSION, Platform, Profile

T = TypeVar("T")

_HINT = "measure it again with: pruneaug profile --task TASK --platform NAME"
_JSON_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}


def read_profile(path: Path) -> Profile:
    """Read a profile file.

    Raises:
        ProfileError: unreadable, of another schema version, or malformed; the message names the
            place, as in ``NAME.json: measurements[3].block: expected ...``.
    """
    document = read_json(
        path, kind="profile", version=SCHEMA_VERSION, error=ProfileError, hint=_HINT
    )
    return _profile(_Place(document, f"{path.name}", root=True))


class _Place:
    """A value of the document that knows where it stands."""

    def __init__(self, value: object, where: str, *, root: bool = False) -> None:
        self._value = value
        self._where = where
        self._separator = ": " if root else "."

    def key(self, name: str) -> "_Place":
        members = self._of(dict, "an object")
        where = f"{self._where}{self._separator}{name}"
        if name not in members:
            raise ProfileError(f"{where}: missing")
        return _Place(members[name], where)

    def rows(self) -> list["_Place"]:
        return [
            _Place(value, f"{self._where}[{index}]")
            for index, value in enumerate(self._of(list, "a list"))
        ]

    def members(self) -> dict[str, "_Place"]:
        members = self._of(dict, "an object")
        return {name: _Place(value, f"{self._where}.{name}") for name, value in members.items()}

    def text(self) -> str:
        return str(self._of(str, "a text"))

    def number(self) -> float:
        value = self._value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refusal("a number")
        if not math.isfinite(value):
            raise self._refusal("a finite number")
        return float(value)

    def integer(self) -> int:
        value = self._value
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._refusal("a whole number from 1 up")
        return value

    def scalar(self) -> float | int | str:
        value = self._value
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self._refusal("a number or a text")
        return value

    @property
    def is_null(self) -> bool:
        return self._value is None

    def make(self, build: Callable[[], T]) -> T:
        """Build a value from what stands here; what it refuses is refused with the place."""
        try:
            return build()
        except ValueError as error:
            raise ProfileError(f"{self._where}: {error}") from error

    def _of(self, kind: type, name: str) -> Any:
        if not isinstance(self._value, kind):
            raise self._refusal(name)
        return self._value

    def _refusal(self, expected: str) -> ProfileError:
        found = _JSON_NAMES.get(type(self._value), repr(self._value))
        if isinstance(self._value, str):
            found = repr(self._value)
        return ProfileError(f"{self._where}: expected {expected}, got {found}")


def _profile(place: _Place) -> Profile:
    platform = place.key("platform")
    rows = place.key("measurements")
    measurements = tuple(map(_measurement, rows.rows()))
    return rows.make(
        lambda: Profile(
            name=place.key("name").text(),
            platform=Platform(
                platform.key("backend").text(),
                platform.key("threads").integer(),
                platform.key("dtype").text(),
                platform.key("batch").integer(),
            ),
            host={name: item.text() for name, item in place.key("host").members().items()},
            kernels={name: item.text() for name, item in place.key("kernels").members().items()},
            date=place.key("date").text(),
            settings={n: item.scalar() for n, item in place.key("settings").members().items()},
            repeat_error=place.key("repeat_error").number(),
            measurements=measurements,
            peers=tuple(map(_peer, place.key("peers").rows())),
            networks=tuple(map(_network, place.key("networks").rows())),
        )
    )


def _measurement(place: _Place) -> Measurement:
    geometry, choice = place.key("geometry"), _choice(place)
    line = geometry.text()
    parsed = geometry.make(lambda: parse_geometry(line))
    latency, spread, samples = _timing(place)
    return place.make(lambda: Measurement(parsed, choice, latency, spread, samples))


def _choice(place: _Place) -> LayerChoice:
    block, sparsity = place.key("block"), place.key("sparsity")
    if block.is_null:
        amount = sparsity.number()
        return DENSE if amount == 0.0 else sparsity.make(lambda: LayerChoice(None, amount))
    text, amount = block.text(), sparsity.number()
    shape = block.make(lambda: BlockShape.parse(text))
    return sparsity.make(lambda: LayerChoice(shape, amount))


def _peer(place: _Place) -> PeerMeasurement:
    geometry = place.key("geometry")
    line = geometry.text()
    parsed = geometry.make(lambda: parse_geometry(line))
    latency, spread, samples = _timing(place)
    return place.make(lambda: PeerMeasurement(parsed, latency, spread, samples))


def _timing(place: _Place) -> tuple[float, float, tuple[float, ...]]:
    samples = tuple(sample.number() for sample in place.key("samples_s").rows())
    return place.key("latency_s").number(), place.key("spread").number(), samples


def _network(place: _Place) -> NetworkMeasurement:
    return NetworkMeasurement(
        place.key("digest").text(),
        place.key("dense_latency_s").number(),
        place.key("rest_s").number(),
        place.key("error").number(),
        {name: _in_place(layer) for name, layer in place.key("layers").members().items()},
        tuple(measured.number() for measured in place.key("measured_s").rows()),
    )


def _in_place(place: _Place) -> InPlace:
    sparsities = tuple(item.number() for item in place.key("sparsities").rows())
    seconds = tuple(item.number() for item in place.key("seconds").rows())
    block = place.key("block")
    shape = None
    if not block.is_null:
        text = block.text()
        shape = block.make(lambda: BlockShape.parse(text))
    return place.make(lambda: InPlace(shape, sparsities, seconds))
