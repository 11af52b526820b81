"""What a profile holds about layers: the latency under a choice, and of the dense peer."""

from dataclasses import dataclass

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
