"""Measuring cells within a budget, and finding out how well measurements repeat.

Cells a profile is not complete without are always measured (:mod:`.cells`), the others while there
is time. While there is time, a row whose samples spread too far is measured again, and the calmest
kept. At the end a few rows spread over the sweep are measured once more; the median of how far
they moved is the repeat error: the honest error bar of everything in the profile.
"""

from collections.abc import Sequence

import numpy as np

from pruneaug_cli.core import Geometry
from pruneaug_cli.platforms import Measurement, PeerMeasurement
from pruneaug_cli.profiling.cells import Cell
from pruneaug_cli.profiling.timer import LayerTimer
from pruneaug_cli.progress import Progress, Step
from pruneaug_cli.runtime import Clock, Samples

STAGE = "profile"
NOISY = 0.08  # spread above which a row is measured again
RETRIES = 2
CHECKED_AGAIN = 9  # rows measured a second time for the repeat error


class Sweep:
    """The rows measured so far, and the progress told about them."""

    def __init__(
        self, timer: LayerTimer, *, steps: int, progress: Progress, clock: Clock, budget_s: float
    ) -> None:
        self.rows: dict[Cell, Measurement] = {}
        self.peers: dict[Geometry, PeerMeasurement] = {}
        self._timer = timer
        self._progress = progress
        self._clock = clock
        self._deadline_s = clock() + budget_s
        self._done, self._steps = 0, steps

    def measure_peers(self, geometries: Sequence[Geometry]) -> None:
        """Time the dense layers in ONNX Runtime alone."""
        for geometry in geometries:
            samples = self._timer.peer(geometry)
            latency_s, spread = resolved(samples)
            self.peers[geometry] = PeerMeasurement(geometry, latency_s, spread, samples.samples_s)
            self._tell(f"ONNX Runtime alone on {geometry}")

    def measure_all(self, cells: Sequence[Cell]) -> None:
        """Time every cell."""
        for cell in cells:
            self._measure(cell)

    def measure_in_time(self, cells: Sequence[Cell]) -> None:
        """Time cells until the budget is used; the rest is left out, and told so."""
        for index, cell in enumerate(cells):
            if self._clock() >= self._deadline_s:
                left = len(cells) - index
                self._tell(f"the budget is used: {left} sparsities in between are left out", left)
                return
            self._measure(cell)

    def repeat_error(self) -> float | None:
        """Measure some rows again; the median of how far they moved, as a fraction.

        Returns:
            None when nothing was measured.
        """
        cells = list(self.rows)
        if not cells:
            return None
        picked = np.unique(np.linspace(0, len(cells) - 1, CHECKED_AGAIN).round().astype(int))
        self._done = self._steps - len(picked)  # the last steps; a cut sweep has fewer rows
        moved = []
        for index in picked:
            cell = cells[index]
            again, _ = resolved(self._calmest(cell))
            moved.append(abs(again / self.rows[cell].latency_s - 1.0))
            self._tell(f"again: {cell}")
        return float(np.median(moved))

    def _measure(self, cell: Cell) -> None:
        samples = self._calmest(cell)
        latency_s, spread = resolved(samples)
        self.rows[cell] = Measurement(
            cell.geometry, cell.choice, latency_s, spread, samples.samples_s
        )
        self._tell(str(cell))

    def _calmest(self, cell: Cell) -> Samples:
        calmest = self._timer.ours(cell.geometry, cell.choice)
        for _ in range(RETRIES):
            if resolved(calmest)[1] <= NOISY or self._clock() >= self._deadline_s:
                break
            again = self._timer.ours(cell.geometry, cell.choice)
            calmest = min(calmest, again, key=lambda samples: resolved(samples)[1])
        return calmest

    def _tell(self, note: str, steps: int = 1) -> None:
        self._done += steps
        self._progress(Step(STAGE, min(self._done, self._steps), self._steps, note))


def resolved(samples: Samples) -> tuple[float, float]:
    """Median and spread of a timing by difference.

    A layer too small for the clock can show a median near or below zero. It then counts as what
    the noise could have hidden: the standard error of the median, about the inter-quartile range
    over the square root of the number of samples.

    Example:
        >>> resolved(Samples((1.0, 2.0, 3.0)))
        (2.0, 0.5)
    """
    low, high = np.percentile(samples.samples_s, (25, 75))
    hidden = (high - low) / np.sqrt(len(samples.samples_s))
    latency = max(samples.median_s, float(hidden), 1e-12)
    return latency, float((high - low) / latency)
