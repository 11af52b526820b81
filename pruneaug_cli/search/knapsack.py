r"""Exact choice of one option per layer under a latency budget: the multiple-choice knapsack.

.. math:: F_l(t) = \min_{o \in O_l} \; F_{l-1}(t - k_o) + h_o , \qquad F_0(t) = 0

``F_l(t)`` is the least total harm of the first l layers within t ticks. Every layer first pays
for its fastest option, exactly; only what an option costs beyond that is counted in ticks,
rounded up. So the fastest plan is never lost, and a plan that fits in ticks fits in seconds.

One pass answers every budget. O(options x ticks) time, O(layers x ticks) memory: no choice is
stored, the way back finds each layer's option as the one that attains the minimum.

References:
    Kellerer, Pferschy and Pisinger, "Knapsack Problems", Springer, 2004, section 11.5. There
    weights are integers; here they are seconds rounded up, as in Frantar and Alistarh, "SPDY",
    ICML 2022, which lets an option under budget round either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class KnapsackTable:
    """The best plan for every budget.

    Attributes:
        floor_s: latency of the fastest plan, seconds.
        tick_s: length of a tick, seconds.
        ticks: per layer, the ticks of each option beyond the fastest of its layer; int64 (O,).
        extra_s: the same in seconds, not rounded up; float64 (O,).
        harms: per layer, the harm of each option; float64 (O,).
        totals: ``F``, shape (layers + 1, limit + 1), limit the largest number of ticks.
    """

    floor_s: float
    tick_s: float
    ticks: tuple[Ints, ...]
    extra_s: tuple[Floats, ...]
    harms: tuple[Floats, ...]
    totals: Floats

    @property
    def least_harms(self) -> Floats:
        """The least total harm within 0, 1, … ticks, never rising; shape (limit + 1,)."""
        least: Floats = self.totals[-1]
        return least

    @property
    def budgets_s(self) -> Floats:
        """The budget, in seconds, that each entry of :attr:`least_harms` belongs to."""
        return np.asarray(self.floor_s + self.tick_s * np.arange(self.totals.shape[1]))

    def choose(self, budget_s: float) -> tuple[int, ...] | None:
        """Per layer, the index of its option in the least harmful plan within ``budget_s``.

        None when not even the fastest plan fits. Between equally harmful options of a layer the
        first stands. Ticks are rounded up, one a layer at most: where the plan of a later tick
        still fits in seconds, that is chosen.
        """
        low = self._tick_within(budget_s)
        if low is None:
            return None
        chosen = self.choose_at(low)
        high = min(low + len(self.ticks), self.totals.shape[1] - 1)
        while low < high:
            middle = (low + high + 1) // 2
            more = self.choose_at(middle)
            if self.latency_s(more) <= budget_s:
                low, chosen = middle, more
            else:
                high = middle - 1
        return chosen

    def latency_s(self, chosen: Sequence[int]) -> float:
        """Seconds that the options with these indices, one per layer, take together."""
        return self.floor_s + sum(
            float(extra[index]) for extra, index in zip(self.extra_s, chosen, strict=True)
        )

    def choose_at(self, tick: int) -> tuple[int, ...]:
        """As :meth:`choose`, for the budget ``budgets_s[tick]``."""
        chosen: list[int] = []
        for layer in reversed(range(len(self.ticks))):
            left = tick - self.ticks[layer]
            before = self.totals[layer, np.maximum(left, 0)] + self.harms[layer]
            # the same sums as in the forward pass: the minimum is attained exactly
            option = int(np.argmin(np.where(left >= 0, before, np.inf)))
            chosen.append(option)
            tick -= int(self.ticks[layer][option])
        return tuple(reversed(chosen))

    def _tick_within(self, budget_s: float) -> int | None:
        if budget_s < self.floor_s:
            return None
        last = self.totals.shape[1] - 1
        return int(min((budget_s - self.floor_s) // self.tick_s, last)) if self.tick_s else last


def solve_knapsack(
    latencies_s: Sequence[Floats], harms: Sequence[Floats], *, ticks: int = 4000
) -> KnapsackTable:
    """Solve for all budgets from the fastest plan to the slowest, in one pass.

    Args:
        latencies_s: per layer, the latency of each of its options, seconds; shape (O,).
        harms: per layer, the harm of each option; shape (O,), any finite numbers.
        ticks: into how many ticks the range of budgets is cut; a plan's latency is
            overestimated by less than one tick per layer.

    Raises:
        ValueError: a layer without options, or arrays of different length.
    """
    _require_options(latencies_s, harms, ticks)
    fastest = [float(latency.min()) for latency in latencies_s]
    extra = [latency - least for latency, least in zip(latencies_s, fastest, strict=True)]
    tick_s = sum(float(e.max()) for e in extra) / ticks
    counts = tuple(_round_up(e, tick_s) for e in extra)
    limit = sum(int(count.max()) for count in counts)
    totals = np.empty((len(counts) + 1, limit + 1))
    totals[0] = 0.0
    reach = 0
    for layer, (count, harm) in enumerate(zip(counts, harms, strict=True)):
        kept = _undominated(count, harm)
        reach = _add_layer(totals[layer], reach, *kept, out=totals[layer + 1])
    return KnapsackTable(sum(fastest), tick_s, counts, tuple(extra), tuple(harms), totals)


def _round_up(extra_s: Floats, tick_s: float) -> Ints:
    if tick_s == 0.0:
        return np.zeros(extra_s.shape, dtype=np.int64)
    return np.ceil(extra_s / tick_s).astype(np.int64)


def _undominated(ticks: Ints, harms: Floats) -> tuple[Ints, Floats]:
    """The options that no other beats in both, fastest first: the others attain no minimum."""
    order = np.lexsort((harms, ticks))
    ticks, harms = ticks[order], harms[order]
    best = np.minimum.accumulate(harms)
    kept = np.concatenate(([True], harms[1:] < best[:-1]))
    return ticks[kept], harms[kept]


def _add_layer(before: Floats, reach: int, ticks: Ints, harms: Floats, *, out: Floats) -> int:
    """Write ``F_l`` to ``out``, from ``F_{l-1}``, which is constant from ``reach`` on.

    Returns from where on ``F_l`` is constant. ``ticks`` rise and ``harms`` fall. Each option is
    added only where ``F_{l-1}`` still falls; right of there its sum stays what it is, which the
    running minimum carries on.
    """
    last = reach + int(ticks[-1])
    changing, sums = before[: reach + 1], np.empty(reach + 1)
    out[: last + 1] = np.inf
    for tick, harm in zip(ticks.tolist(), harms.tolist(), strict=True):
        part = out[tick : tick + reach + 1]
        np.add(changing, harm, out=sums)
        np.minimum(part, sums, out=part)
    np.minimum.accumulate(out[: last + 1], out=out[: last + 1])
    out[last + 1 :] = out[last]
    return last


def _require_options(latencies_s: Sequence[Floats], harms: Sequence[Floats], ticks: int) -> None:
    if ticks < 1:
        raise ValueError(f"at least one tick is needed, got {ticks}")
    if len(latencies_s) != len(harms):
        raise ValueError(f"{len(latencies_s)} layers of latencies, {len(harms)} of harms")
    for layer, (latency, harm) in enumerate(zip(latencies_s, harms, strict=True)):
        if latency.size == 0 or latency.shape != harm.shape or latency.ndim != 1:
            raise ValueError(
                f"layer {layer}: expected as many latencies as harms, at least one, "
                f"got shapes {latency.shape} and {harm.shape}"
            )
