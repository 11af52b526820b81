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
    """What a whole network takes besides its prunable layers, and what its dense peer takes.

    Attributes:
        digest: of the network's graph without its weights.
        dense_latency_s: the whole dense network in ONNX Runtime alone: what speed-ups refer to.
        rest_s: what to add to the sum of the layers; negative when layers are faster together.
        error_s: the largest error this left among the samples.
        samples: the plans it was fitted to.
    """

    digest: str
    dense_latency_s: float
    rest_s: float
    error_s: float
    samples: tuple[NetworkSample, ...]

    @classmethod
    def fit(cls, digest: str, samples: Sequence[NetworkSample], *, dense_latency_s: float) -> Self:
        """Take the median of ``measured_s - layers_s`` as the rest.

        Example:
            >>> samples = [NetworkSample(5.0, 3.0)]
            >>> fitted = NetworkMeasurement.fit("ab", samples, dense_latency_s=9.0)
            >>> fitted.rest_s, fitted.error_s
            (2.0, 0.0)
        """
        if not samples:
            raise ValueError("a network needs at least one sample")
        rests = [sample.measured_s - sample.layers_s for sample in samples]
        rest = float(np.median(rests))
        return cls(
            digest, dense_latency_s, rest, max(abs(value - rest) for value in rests), tuple(samples)
        )
