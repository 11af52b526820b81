r"""Times one layer in ONNX Runtime, by difference.

Two models hold the layer 1 and :math:`1 + m` times (:mod:`.layer_model`). They are timed
alternately; each round gives one sample :math:`(t_{1+m} - t_1) / m`, so that drift of the machine
cancels. :math:`m` grows until the longer model takes at least twice as long as the shorter one:
then the relative noise of a sample is at most three times that of a whole-model timing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pruneaug_cli.core import Geometry, LayerChoice
from pruneaug_cli.profiling.layer_model import layer_matrix, layer_model, peer_model
from pruneaug_cli.runtime import (
    Clock,
    Samples,
    clock_for,
    example_arrays,
    open_session,
    time_alternating,
)

REPEATS = 15
SAMPLE_S = 3e-4
_COPIES = (2, 8, 32)  # m is the first of these that is clear
_FIRST_LOOK = 3  # samples to decide whether m is large enough


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


@dataclass(frozen=True, slots=True)
class SessionTimer:
    """Times layers where they will run: as ONNX models in sessions of this process.

    Attributes:
        library: our operators.
        threads: of the sessions.
        repeats: samples per layer.
        sample_s: least duration of a sample of the shorter model.
        seed: of weights, masks and inputs.
        clock: seconds; None: the clock for this many threads.
    """

    library: Path
    threads: int = 1
    repeats: int = REPEATS
    sample_s: float = SAMPLE_S
    seed: int = 0
    clock: Clock | None = None

    def ours(self, geometry: Geometry, choice: LayerChoice) -> Samples:
        """The layer inside a region of ours."""
        matrix = layer_matrix(geometry, choice, seed=self.seed)
        return self._by_difference(
            lambda copies: layer_model(geometry, matrix, copies=copies), self.library
        )

    def peer(self, geometry: Geometry) -> Samples:
        """The dense layer in ONNX Runtime alone."""
        return self._by_difference(
            lambda copies: peer_model(geometry, copies=copies, seed=self.seed), None
        )

    def _by_difference(self, model: Callable[[int], bytes], library: Path | None) -> Samples:
        once = self._call(model(1), library)
        for more in _COPIES:
            many = self._call(model(1 + more), library)
            if more == _COPIES[-1] or self._is_clear(once, many):
                break
        short, long = self._time(once, many, self.repeats)
        pairs = zip(long.samples_s, short.samples_s, strict=True)
        return Samples(tuple((slow - fast) / more for slow, fast in pairs))

    def _is_clear(self, once: Callable[[], object], many: Callable[[], object]) -> bool:
        short, long = self._time(once, many, _FIRST_LOOK)
        return long.median_s >= 2.0 * short.median_s

    def _time(
        self, once: Callable[[], object], many: Callable[[], object], repeats: int
    ) -> list[Samples]:
        return time_alternating(
            [once, many],
            repeats=repeats,
            sample_s=self.sample_s,
            clock=self.clock or clock_for(self.threads),
        )

    def _call(self, model: bytes, library: Path | None) -> Callable[[], object]:
        session = open_session(model, threads=self.threads, library=library)
        return session.bound_call(example_arrays(session.inputs, seed=self.seed))
