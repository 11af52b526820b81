"""What a profile holds: the latency of a layer under a choice, of its dense peer, of a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pruneaug_cli.core import Geometry, LayerChoice


def _require_timing(latency_s: float, spread: float, samples_s: tuple[float, ...]) -> None:
    if not latency_s > 0.0:
        raise ValueError(f"latency_s must be positive, got {latency_s!r}")
    if not spread >= 0.0:
        raise ValueError(f"spread must not be negative, got {spread!r}")
    if not samples_s:
        raise ValueError("samples_s must hold at least one sample")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One layer inside a region of ours.

    Attributes:
        geometry: the layer.
        choice: its block and sparsity, or dense.
        latency_s: median of the samples.
        spread: inter-quartile range of the samples over their median.
        samples_s: every sample, in the order it was taken.
    """

    geometry: Geometry
    choice: LayerChoice
    latency_s: float
    spread: float
    samples_s: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_timing(self.latency_s, self.spread, self.samples_s)

    @property
    def repeats(self) -> int:
        """How many samples there are."""
        return len(self.samples_s)


@dataclass(frozen=True, slots=True)
class PeerMeasurement:
    """The same layer, dense, in ONNX Runtime alone; fields as in :class:`Measurement`."""

    geometry: Geometry
    latency_s: float
    spread: float
    samples_s: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_timing(self.latency_s, self.spread, self.samples_s)


@dataclass(frozen=True, slots=True)
class NetworkSample:
    """One plan of a network, measured whole, beside the sum its layers were predicted to take."""

    measured_s: float
    layers_s: float


@dataclass(frozen=True, slots=True)
class NetworkMeasurement:
    r"""What a whole network takes besides its prunable layers, and what its dense peer takes.

    A plan whose layers take :math:`t` alone is predicted to take :math:`a t + b` in the network:
    layers share caches there, and something is spent around them.

    Attributes:
        digest: of the network's graph without its weights.
        dense_latency_s: the whole dense network in ONNX Runtime alone: what speed-ups refer to.
        scale: a.
        rest_s: b; negative when layers are faster together than a alone accounts for.
        error: the largest error this left among the samples, as a fraction of what was measured.
        samples: the plans it was fitted to.
    """

    digest: str
    dense_latency_s: float
    scale: float
    rest_s: float
    error: float
    samples: tuple[NetworkSample, ...]

    def latency_s(self, layers_s: float) -> float:
        """Predicted seconds of a plan whose layers take ``layers_s`` alone."""
        return self.scale * layers_s + self.rest_s

    @classmethod
    def fit(cls, digest: str, samples: Sequence[NetworkSample], *, dense_latency_s: float) -> Self:
        """Fit a line through the samples, by least squares of relative errors.

        With one sample (or equal ones) the scale is 1. It is kept between 1/2 and 2: what lies
        outside is noise.

        Example:
            >>> samples = [NetworkSample(5.0, 4.0), NetworkSample(3.0, 2.0)]
            >>> fitted = NetworkMeasurement.fit("ab", samples, dense_latency_s=9.0)
            >>> round(fitted.scale, 6), round(fitted.rest_s, 6), round(fitted.latency_s(3.0), 6)
            (1.0, 1.0, 4.0)
        """
        if not samples:
            raise ValueError("a network needs at least one sample")
        measured = np.array([sample.measured_s for sample in samples])
        layers = np.array([sample.layers_s for sample in samples])
        scale = 1.0
        if np.ptp(layers) > 0.0:
            scale = float(np.polyfit(layers, measured, 1, w=1.0 / measured)[0])
            scale = min(max(scale, 0.5), 2.0)
        weights = measured**-2.0
        rest = float(np.sum(weights * (measured - scale * layers)) / np.sum(weights))
        error = float(np.max(np.abs((scale * layers + rest) / measured - 1.0)))
        return cls(digest, dense_latency_s, scale, rest, error, tuple(samples))
