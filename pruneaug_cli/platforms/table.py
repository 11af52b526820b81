r"""What a layer costs on a platform: interpolation between measurements, with an error bar.

Along the sparsities measured for one geometry and block, latency can only fall as blocks go; noise
may say otherwise. So the measurements are first replaced by the nearest falling sequence (weighted
isotonic regression, weights :math:`1/e_i^2`), then joined by straight lines: a kernel's time is
close to :math:`a + b \cdot (1 - s)`. Nothing is extrapolated.

The error :math:`e_i` of a measured median :math:`t` with spread :math:`\sigma = IQR/t` over
:math:`n` samples:

.. math:: e_i = t \sqrt{(0.93\, \sigma / \sqrt{n})^2 + \rho^2}

The first part is the standard error of the median of normal samples
(:math:`1.2533 / 1.349 = 0.93` inter-quartile ranges over :math:`\sqrt n`); :math:`\rho` is the
profile's ``repeat_error``, how far a row moved when it was measured again. What the isotonic step
moved a point by is added to its error.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass

from pruneaug_cli.core import DENSE, BlockShape, Geometry, LayerChoice
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.platforms.isotonic import isotonic_falling
from pruneaug_cli.platforms.measurement import Measurement
from pruneaug_cli.platforms.network import NetworkMeasurement
from pruneaug_cli.platforms.profile import Profile

_MEDIAN_ERROR = 1.2533 / 1.349  # standard error of a median, in inter-quartile ranges over sqrt(n)
_LEAST_ERROR = 1e-3  # relative; keeps the weights finite for a profile that claims no noise


@dataclass(frozen=True, slots=True)
class Estimate:
    """A predicted latency and its error (one standard deviation), both seconds."""

    latency_s: float
    error_s: float


@dataclass(frozen=True, slots=True)
class _Curve:
    """Latency over rising sparsity, never rising itself."""

    sparsities: tuple[float, ...]
    latencies_s: tuple[float, ...]
    errors_s: tuple[float, ...]

    def at(self, sparsity: float) -> Estimate:
        right = bisect_right(self.sparsities, sparsity)
        if right == len(self.sparsities):
            return Estimate(self.latencies_s[-1], self.errors_s[-1])
        left = right - 1
        low, high = self.sparsities[left], self.sparsities[right]
        share = (sparsity - low) / (high - low)
        return Estimate(
            _blend(self.latencies_s[left], self.latencies_s[right], share),
            _blend(self.errors_s[left], self.errors_s[right], share),
        )


class LatencyTable:
    """Answers "how long does this layer take under this choice" from a profile.

    Everything is arranged once; a lookup is two dictionary accesses and a bisection.
    """

    def __init__(self, profile: Profile) -> None:
        self._name = profile.name
        self._dense: dict[Geometry, Estimate] = {}
        self._curves: dict[Geometry, dict[BlockShape, _Curve]] = defaultdict(dict)
        self._peers = {row.geometry: row.latency_s for row in profile.peers}
        rows: dict[tuple[Geometry, BlockShape], list[Measurement]] = defaultdict(list)
        for row in profile.measurements:
            if row.choice.block is None:
                error = _error(row, profile.repeat_error)
                self._dense[row.geometry] = Estimate(row.latency_s, error)
            else:
                rows[row.geometry, row.choice.block].append(row)
        for (geometry, block), measured in rows.items():
            self._curves[geometry][block] = _curve(measured, profile.repeat_error)

    @property
    def geometries(self) -> tuple[Geometry, ...]:
        """Every geometry with a dense measurement, in the order of its line."""
        return tuple(sorted(self._dense, key=str))

    def blocks(self, geometry: Geometry) -> tuple[BlockShape, ...]:
        """Blocks measured on this geometry, smallest first; empty when there are none."""
        return tuple(sorted(self._curves.get(geometry, {})))

    def sparsity_range(self, geometry: Geometry, block: BlockShape) -> tuple[float, float]:
        """Lowest and highest sparsity measured.

        Raises:
            UnsupportedError: the pair was not measured.
        """
        curve = self._find(geometry, block)
        return curve.sparsities[0], curve.sparsities[-1]

    def latency_s(self, geometry: Geometry, choice: LayerChoice) -> Estimate:
        """Predict one layer.

        Raises:
            UnsupportedError: the geometry or block was not measured, or the sparsity lies outside
                the measured range.
        """
        if choice.block is None:
            if geometry not in self._dense:
                raise self._unmeasured(f"{geometry} with dense weights")
            return self._dense[geometry]
        curve = self._find(geometry, choice.block)
        low, high = curve.sparsities[0], curve.sparsities[-1]
        if not low <= choice.sparsity <= high:
            raise UnsupportedError(
                f"profile {self._name!r} has {choice.block} blocks on {geometry} between "
                f"sparsity {low:g} and {high:g}, not at {choice.sparsity:g}",
                hint="choose a sparsity in this range, or measure it with: "
                f"{self._command(f' --sparsity {choice.sparsity:g}')}",
            )
        return curve.at(choice.sparsity)

    def in_network(
        self,
        network: NetworkMeasurement,
        name: str,
        geometry: Geometry,
        choice: LayerChoice,
        *,
        uses: int = 1,
    ) -> float:
        """Predicted seconds of all uses of a layer in its place in a network (``network.py``).

        Raises:
            UnsupportedError: the choice was not measured.
        """
        price_s = self.latency_s(geometry, choice).latency_s
        place = network.layers.get(name)
        if place is None:
            return uses * price_s
        sparsity = min(max(choice.sparsity, place.sparsities[0]), place.sparsities[-1])
        reference = DENSE
        if place.block is not None and choice.block is not None:
            low, high = self.sparsity_range(geometry, place.block)
            sparsity = min(max(sparsity, low), high)
            reference = LayerChoice(place.block, sparsity)
        return place.at(sparsity) * price_s / self.latency_s(geometry, reference).latency_s

    def peer_latency_s(self, geometry: Geometry) -> float | None:
        """The dense layer in ONNX Runtime alone, when it was measured."""
        return self._peers.get(geometry)

    def break_even(self, geometry: Geometry, block: BlockShape) -> float | None:
        """The lowest sparsity in the measured range that beats dense; None when none does.

        Dense is the faster of our own kernels and, where measured, ONNX Runtime alone.

        Raises:
            UnsupportedError: the pair was not measured.
        """
        curve = self._find(geometry, block)
        dense = self.latency_s(geometry, DENSE).latency_s
        limit = min(dense, self._peers.get(geometry, dense))
        if curve.latencies_s[0] < limit:
            return curve.sparsities[0]
        for left, (slow, fast) in enumerate(
            zip(curve.latencies_s, curve.latencies_s[1:], strict=False)
        ):
            if fast < limit:
                share = (slow - limit) / (slow - fast)
                return _blend(curve.sparsities[left], curve.sparsities[left + 1], share)
        return None

    def _find(self, geometry: Geometry, block: BlockShape) -> _Curve:
        curves = self._curves.get(geometry, {})
        if block not in curves:
            options = f" --block {block}" if curves else ""
            raise self._unmeasured(f"{block} blocks on {geometry}", options)
        return curves[block]

    def _unmeasured(self, what: str, options: str = "") -> UnsupportedError:
        return UnsupportedError(
            f"profile {self._name!r} has no measurement of {what}",
            hint=f"add it with: {self._command(options)}",
        )

    def _command(self, options: str) -> str:
        return f"pruneaug profile --task TASK --platform {self._name}{options}"


def _curve(rows: list[Measurement], repeat_error: float) -> _Curve:
    rows = sorted(rows, key=lambda row: row.choice.sparsity)
    measured = [row.latency_s for row in rows]
    errors = [_error(row, repeat_error) for row in rows]
    falling = isotonic_falling(measured, [error**-2 for error in errors])
    moved = [abs(after - before) for after, before in zip(falling, measured, strict=True)]
    return _Curve(
        tuple(row.choice.sparsity for row in rows),
        tuple(falling),
        tuple(error + shift for error, shift in zip(errors, moved, strict=True)),
    )


def _error(row: Measurement, repeat_error: float) -> float:
    sampling = _MEDIAN_ERROR * row.spread / math.sqrt(row.repeats)
    return row.latency_s * max(math.hypot(sampling, repeat_error), _LEAST_ERROR)


def _blend(low: float, high: float, share: float) -> float:
    return low + share * (high - low)
