"""A platform profile: the latencies one device showed, and how they were taken.

All times are seconds; sparsity is the fraction of blocks removed. The document::

    schema_version  2
    name            of the profile
    platform        {backend, threads, dtype, batch}: what a plan for this platform runs on
    host            {cpu, isa, os, ...}: the machine, as text; no names, no paths
    kernels         {library, version, compiler, isa, digest}: what was timed
    date            day of the first measurement, ISO 8601
    settings        {repeats, sample_s, seed, yardstick, yardstick_s, ...}: how it was timed;
                    yardstick_s is what a fixed piece of work, the yardstick, took on the machine
                    at the speed of the rows
    repeat_error    by what fraction a row differed when it was measured again (median over rows)
    measurements    [{geometry, block, sparsity, latency_s, spread, samples_s}]: layers inside our
                    regions; block null and sparsity 0: dense
    peers           [{geometry, latency_s, spread, samples_s}]: the same layers, dense, in ONNX
                    Runtime alone
    networks        [{digest, dense_latency_s, rest_s, error, measured_s: [...], layers: {name:
                    {block, sparsities: [...], seconds: [...]}}}]: whole networks; see
                    ``platforms/network.py``

Geometries are lines as in ``core/geometry.py``, blocks are ``8x1``. Rows are sorted.

History (``schema_version``):
    1: first version.
    2: networks hold every layer's time in its place, instead of one scale for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pruneaug_cli.core import Geometry, LayerChoice
from pruneaug_cli.files import JsonObject, write_json
from pruneaug_cli.platforms.measurement import Measurement, PeerMeasurement
from pruneaug_cli.platforms.network import NetworkMeasurement

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 2
_DIGITS = 5  # significant digits of a time in a file: far finer than any clock repeats


@dataclass(frozen=True, slots=True)
class Platform:
    """What a plan runs on, apart from the machine.

    Attributes:
        backend: name in ``kernels.BACKENDS``.
        threads: threads of the ONNX Runtime session.
        dtype: of weights and activations.
        batch: samples per run, where a geometry or a network does not say.
    """

    backend: str
    threads: int = 1
    dtype: str = "float32"
    batch: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A measured platform; fields as in the document (see the head of this module)."""

    name: str
    platform: Platform
    host: Mapping[str, str]
    kernels: Mapping[str, str]
    date: str
    settings: Mapping[str, float | int | str]
    repeat_error: float
    measurements: tuple[Measurement, ...]
    peers: tuple[PeerMeasurement, ...] = ()
    networks: tuple[NetworkMeasurement, ...] = ()
    _index: dict[tuple[Geometry, LayerChoice], Measurement] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index = {(row.geometry, row.choice): row for row in self.measurements}
        object.__setattr__(self, "_index", index)
        if len(index) != len(self.measurements):
            raise ValueError("a profile measures each geometry and choice once")

    def find(self, geometry: Geometry, choice: LayerChoice) -> Measurement | None:
        """The measurement of exactly this pair."""
        return self._index.get((geometry, choice))

    def network(self, digest: str) -> NetworkMeasurement | None:
        """The rest of the network with this digest."""
        return next((entry for entry in self.networks if entry.digest == digest), None)

    def with_network(self, measured: NetworkMeasurement) -> "Profile":
        """A copy in which ``measured`` replaces what was known about its network."""
        others = [entry for entry in self.networks if entry.digest != measured.digest]
        return replace(self, networks=(*others, measured))

    def to_json(self) -> JsonObject:
        """The document."""
        platform = self.platform
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "platform": {
                "backend": platform.backend,
                "threads": platform.threads,
                "dtype": platform.dtype,
                "batch": platform.batch,
            },
            "host": dict(self.host),
            "kernels": dict(self.kernels),
            "date": self.date,
            "settings": dict(self.settings),
            "repeat_error": _rounded(self.repeat_error),
            "measurements": [_write_measurement(row) for row in _sorted(self.measurements)],
            "peers": [
                _write_timing(row) for row in sorted(self.peers, key=lambda r: str(r.geometry))
            ],
            "networks": [
                _write_network(row) for row in sorted(self.networks, key=lambda r: r.digest)
            ],
        }

    def to_frame(self) -> "pd.DataFrame":
        """One row per measurement, for pandas and its ``to_csv``.

        Columns: op, geometry, block, sparsity, latency_s, spread, repeats, and peer_latency_s, the
        dense time in ONNX Runtime alone.
        """
        import pandas as pd  # half a second that only those who want a table should pay

        peers = {row.geometry: row.latency_s for row in self.peers}
        return pd.DataFrame(
            {
                "op": row.geometry.op,
                "geometry": str(row.geometry),
                "block": "dense" if row.choice.block is None else str(row.choice.block),
                "sparsity": row.choice.sparsity,
                "latency_s": row.latency_s,
                "spread": row.spread,
                "repeats": row.repeats,
                "peer_latency_s": peers.get(row.geometry),
            }
            for row in _sorted(self.measurements)
        )


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile, atomically; equal profiles give equal bytes."""
    write_json(path, profile.to_json())


def _sorted(rows: tuple[Measurement, ...]) -> list[Measurement]:
    return sorted(rows, key=lambda row: (str(row.geometry), row.choice.sort_key))


def _write_measurement(row: Measurement) -> JsonObject:
    block = row.choice.block
    return {
        **_write_timing(row),
        "block": None if block is None else str(block),
        "sparsity": row.choice.sparsity,
    }


def _write_timing(row: Measurement | PeerMeasurement) -> JsonObject:
    return {
        "geometry": str(row.geometry),
        "latency_s": _rounded(row.latency_s),
        "spread": _rounded(row.spread),
        "samples_s": [_rounded(sample) for sample in row.samples_s],
    }


def _write_network(row: NetworkMeasurement) -> JsonObject:
    return {
        "digest": row.digest,
        "dense_latency_s": _rounded(row.dense_latency_s),
        "rest_s": _rounded(row.rest_s),
        "error": _rounded(row.error),
        "measured_s": [_rounded(seconds) for seconds in row.measured_s],
        "layers": {
            name: {
                "block": None if layer.block is None else str(layer.block),
                "sparsities": list(layer.sparsities),
                "seconds": [_rounded(seconds) for seconds in layer.seconds],
            }
            for name, layer in sorted(row.layers.items())
        },
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
