r"""Times one layer in ONNX Runtime, by difference.

Two models hold the layer 1 and :math:`1 + m` times (:mod:`.layer_model`). They are timed
alternately; each round gives one sample :math:`(t_{1+m} - t_1) / m`, so that drift of the machine
cancels; what its changes of speed still do to a round, a yardstick takes out (``runtime/pace.py``).
:math:`m` is chosen so that the :math:`m` layers are expected to take at least as long as the
session, the load of the input and the store of the output together: then the relative noise of a
sample is at most three times that of timing a whole model.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pruneaug_cli.core import DENSE, BlockShape, ConvGeometry, Geometry, LayerChoice
from pruneaug_cli.profiling.layer_model import layer_matrix, layer_model, peer_model
from pruneaug_cli.runtime import (
    Clock,
    Pace,
    Samples,
    clock_for,
    example_arrays,
    open_session,
    time_in_pace,
)

REPEATS = 15
SAMPLE_S = 3e-4
_YARDSTICK = ConvGeometry(16, 16, (3, 3), (32, 32), padding=(1, 1))
_YARDSTICK_CHOICE, _YARDSTICK_COPIES = LayerChoice(BlockShape(8, 1), 0.5), 4
YARDSTICK = f"{_YARDSTICK_COPIES} times {_YARDSTICK}, {_YARDSTICK_CHOICE}"
_FEWEST, _MOST = 2, 32  # bounds of m
# What a session and the load or store of a number cost, in products of the kernels: 5 µs and
# 0.4 ns where a product takes 0.01 ns. Only m depends on them.
_SESSION_PRODUCTS, _NUMBER_PRODUCTS = 500_000, 40


class LayerTimer(Protocol):
    """Knows how long layers take.

    Samples are seconds per layer. Around a very small latency they may scatter, even below zero.
    """

    def ours(self, geometry: Geometry, choice: LayerChoice) -> Samples:
        """The layer inside a region of ours."""
        ...

    def peer(self, geometry: Geometry) -> Samples:
        """The dense layer in ONNX Runtime alone."""
        ...

    @property
    def yardstick_s(self) -> float:
        """What a fixed piece of work takes on the machine at the speed of the samples, seconds."""
        ...


class SessionTimer:
    """Times layers where they will run: as ONNX models in sessions of this process.

    Args:
        library: our operators.
        threads: of the sessions.
        repeats: samples per layer.
        sample_s: least duration of a sample of the shorter model.
        seed: of weights, masks and inputs.
        clock: seconds; None: the clock for this many threads.
        yardstick_s: best time of the yardstick known from before; samples are given for a machine
            at that speed.
    """

    def __init__(
        self,
        library: Path,
        threads: int = 1,
        *,
        repeats: int = REPEATS,
        sample_s: float = SAMPLE_S,
        seed: int = 0,
        clock: Clock | None = None,
        yardstick_s: float = math.inf,
    ) -> None:
        self.library, self.threads = library, threads
        self._repeats, self._sample_s, self._seed = repeats, sample_s, seed
        self.clock = clock or clock_for(threads)
        matrix = layer_matrix(_YARDSTICK, _YARDSTICK_CHOICE, seed=seed)
        work = self.call(layer_model(_YARDSTICK, matrix, copies=_YARDSTICK_COPIES), library)
        self.pace = Pace(work, self.clock, yardstick_s)

    @property
    def yardstick_s(self) -> float:
        """Four small convolutions, half of their blocks removed, and a session: about 0.1 ms.

        Neighbours on the core slow these about as much as the networks that are timed.
        """
        return self.pace.best_s

    def side_by_side(
        self,
        calls: Sequence[Callable[[], object]],
        *,
        repeats: int,
        sample_s: float,
        budget_s: float = math.inf,
    ) -> list[Samples]:
        """Time calls as on the machine at the yardstick's speed; see :func:`time_in_pace`."""
        return time_in_pace(
            calls, self.pace,
            repeats=repeats, sample_s=sample_s, clock=self.clock, budget_s=budget_s,
        )  # fmt: skip

    def ours(self, geometry: Geometry, choice: LayerChoice) -> Samples:
        """The layer inside a region of ours."""
        matrix = layer_matrix(geometry, choice, seed=self._seed)
        return self._by_difference(
            lambda copies: layer_model(geometry, matrix, copies=copies),
            added_copies(geometry, choice),
            self.library,
        )

    def peer(self, geometry: Geometry) -> Samples:
        """The dense layer in ONNX Runtime alone."""
        return self._by_difference(
            lambda copies: peer_model(geometry, copies=copies, seed=self._seed),
            added_copies(geometry, DENSE),
            None,
        )

    def _by_difference(
        self, model: Callable[[int], bytes], added: int, library: Path | None
    ) -> Samples:
        once, many = (self.call(model(copies), library) for copies in (1, 1 + added))
        short, long = self.side_by_side(
            [once, many], repeats=self._repeats, sample_s=self._sample_s
        )
        pairs = zip(long.samples_s, short.samples_s, strict=True)
        return Samples(tuple((slow - fast) / added for slow, fast in pairs))

    def call(
        self, model: bytes | Path, library: Path | None, *, batch: int = 1
    ) -> Callable[[], object]:
        """One run of a model on fixed random inputs; ``batch`` samples where the model is free."""
        session = open_session(model, threads=self.threads, library=library)
        return session.bound_call(example_arrays(session.inputs, seed=self._seed, batch=batch))


def added_copies(geometry: Geometry, choice: LayerChoice) -> int:
    """m: how many more layers the longer model has."""
    around = _SESSION_PRODUCTS + _NUMBER_PRODUCTS * _numbers(geometry)
    products = geometry.macs * (1.0 - choice.sparsity)
    return min(max(math.ceil(around / products), _FEWEST), _MOST)


def _numbers(geometry: Geometry) -> int:
    """How many numbers the layer reads and writes, without its weights."""
    if isinstance(geometry, ConvGeometry):
        read = geometry.in_channels * int(np.prod(geometry.image))
        written = geometry.out_channels * int(np.prod(geometry.output))
        return geometry.batch * (read + written)
    return geometry.rows * (geometry.in_features + geometry.out_features)
