r"""What a whole network takes: its layers in their places, and the rest.

A layer in its place takes another time than alone: its weights come from further caches, its input
from the layer before, it may add a residual. So a few uniform plans of the network are measured
whole, and in each of them every layer in its place. Between their sparsities a layer's time
:math:`T_l(s)` is interpolated, close to a straight line as kernels are; other blocks than the one
measured take as much more or less as they do alone, by the latency table :math:`t`
(``LatencyTable.in_network``):

.. math:: \text{latency} = b + \sum_l T_l(s_l) \frac{t(\text{block}_l, s_l)}{t(\text{ref}_l, s_l)}

The rest :math:`b` is what no layer accounts for: loads, splits of strided layers, pooling, entering
and leaving regions, whatever runs outside of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from pruneaug_cli.core import BlockShape, LayerChoice
from pruneaug_cli.platforms.isotonic import isotonic_falling


@dataclass(frozen=True, slots=True)
class NetworkSample:
    """One plan of a network, measured whole.

    Attributes:
        measured_s: the whole.
        layers_s: what each layer took in its place, by name; those outside of our regions are
            missing, they belong to the rest.
        choices: the plan's choice for each layer.
    """

    measured_s: float
    layers_s: Mapping[str, float]
    choices: Mapping[str, LayerChoice]


@dataclass(frozen=True, slots=True)
class InPlace:
    """A layer in its place in a network.

    Attributes:
        block: in which it was measured; None when only dense.
        sparsities: at which, rising; 0 is dense.
        seconds: what all its uses took, for each.
    """

    block: BlockShape | None
    sparsities: tuple[float, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.sparsities or len(self.sparsities) != len(self.seconds):
            raise ValueError(
                f"expected as many seconds as sparsities, got {len(self.seconds)} for "
                f"{len(self.sparsities)}"
            )
        if any(a >= b for a, b in pairwise(self.sparsities)):
            raise ValueError(f"expected rising sparsities, got {self.sparsities}")
        if not min(self.seconds) > 0.0:
            raise ValueError(f"expected positive seconds, got {self.seconds}")

    def at(self, sparsity: float) -> float:
        """Seconds at a sparsity; outside of those measured, at the nearest.

        Example:
            >>> InPlace(BlockShape(8, 1), (0.0, 0.8), (2e-3, 1e-3)).at(0.4)
            0.0015
        """
        return float(np.interp(sparsity, self.sparsities, self.seconds))


@dataclass(frozen=True, slots=True)
class NetworkMeasurement:
    """A network measured on a platform.

    Attributes:
        digest: of the network's graph without its weights.
        dense_latency_s: the whole dense network in ONNX Runtime alone: what speed-ups refer to.
        rest_s: b in the head of this module.
        error: the largest error of predicting one measured plan from the others, as a fraction of
            what was measured; the plans of lowest and highest sparsity only help. 0 when there are
            no others.
        layers: by name; a layer without an entry ran outside of our regions.
        measured_s: the plans it was fitted to, in the order they were measured.
    """

    digest: str
    dense_latency_s: float
    rest_s: float
    error: float
    layers: Mapping[str, InPlace]
    measured_s: tuple[float, ...]

    @classmethod
    def fit(cls, digest: str, samples: Sequence[NetworkSample], *, dense_latency_s: float) -> Self:
        """Fit to measured plans.

        A layer's times fall with sparsity (``isotonic.py``). The rest is the mean over plans of
        what their layers do not account for, weighted so that relative errors are small.

        Example:
            >>> from pruneaug_cli.core import DENSE
            >>> plans = [NetworkSample(5.0, {"a": 4.0}, {"a": DENSE})]
            >>> fitted = NetworkMeasurement.fit("ab", plans, dense_latency_s=9.0)
            >>> fitted.rest_s, fitted.layers["a"].seconds
            (1.0, (4.0,))
        """
        if not samples:
            raise ValueError("a network needs at least one sample")
        return cls(
            digest,
            dense_latency_s,
            _rest_s(samples),
            max(map(_left_out, *_inner(samples)), default=0.0),
            _fit_layers(samples),
            tuple(sample.measured_s for sample in samples),
        )


def _fit_layers(samples: Sequence[NetworkSample]) -> dict[str, InPlace]:
    seen: dict[str, dict[float, list[float]]] = {}
    blocks: dict[str, BlockShape] = {}
    for sample in samples:
        for name, seconds in sample.layers_s.items():
            choice = sample.choices[name]
            seen.setdefault(name, {}).setdefault(choice.sparsity, []).append(seconds)
            if choice.block is not None and blocks.setdefault(name, choice.block) != choice.block:
                raise ValueError(f"{name}: measured in blocks of {blocks[name]} and {choice.block}")
    return {name: _in_place(blocks.get(name), found) for name, found in seen.items()}


def _in_place(block: BlockShape | None, seen: Mapping[float, Sequence[float]]) -> InPlace:
    sparsities = tuple(sorted(seen))
    means = [float(np.mean(seen[sparsity])) for sparsity in sparsities]
    weights = [
        len(seen[sparsity]) / mean**2 for sparsity, mean in zip(sparsities, means, strict=True)
    ]
    return InPlace(block, sparsities, tuple(isotonic_falling(means, weights)))


def _rest_s(samples: Sequence[NetworkSample]) -> float:
    rests = [sample.measured_s - sum(sample.layers_s.values()) for sample in samples]
    return float(np.average(rests, weights=[sample.measured_s**-2.0 for sample in samples]))


def _inner(
    samples: Sequence[NetworkSample],
) -> tuple[list[NetworkSample], list[list[NetworkSample]]]:
    """Samples that lie between others, each with those others."""
    ordered = sorted(samples, key=lambda s: sum(c.sparsity for c in s.choices.values()))
    inner = ordered[1:-1]
    return inner, [[other for other in ordered if other is not sample] for sample in inner]


def _left_out(sample: NetworkSample, others: Sequence[NetworkSample]) -> float:
    """The error of predicting one sample from the others."""
    layers = _fit_layers(others)
    predicted_s = _rest_s(others) + sum(
        layers[name].at(sample.choices[name].sparsity) for name in sample.layers_s if name in layers
    )
    return abs(predicted_s / sample.measured_s - 1.0)
