"""The question a search answers, and what can be said about it before anything is measured.

Three questions can be asked:

- ``max_drop``: the fastest plan whose metric is at most that much worse than the dense one;
- ``target_latency_s``: the most accurate plan that is predicted to be no slower;
- both: the most accurate plan within the target, which must then keep to ``max_drop``.

A *drop* is how much worse than the dense model a plan is, in the metric's own unit (0.01 is one
point of an accuracy in [0, 1]), positive when worse, whichever way the metric points.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pruneaug_cli.core import LayerChoice, Option, Plan, undominated
from pruneaug_cli.errors import BudgetError, UsageError
from pruneaug_cli.files import digest_text

ROUNDING = 1e-6
"""Of a metric, relative: 0.98 - 0.97 must count as 0.01, also where they were means in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchProblem:
    """Priced options per layer, and the question.

    Attributes:
        options: per layer its options, the dense one among them.
        rest_s: seconds of everything outside the layers; part of every plan's latency. Negative
            when layers are faster together than alone.
        dense_metric: metric of the dense model.
        higher_is_better: which way the metric points.
        max_drop: largest drop allowed, absolute, in the metric's unit.
        target_latency_s: largest predicted latency allowed, seconds.
        cautious: a plan counts as losing no less than it is expected to (``judged.py``).
        recovery: the part of ``max_drop`` that training is trusted to win back; for what is said.

    Raises:
        UsageError: neither a drop nor a target is given, or one is out of range.
        ValueError: a layer has no dense option, or the same choice twice; a number is not finite.
    """

    options: Mapping[str, tuple[Option, ...]]
    rest_s: float
    dense_metric: float
    higher_is_better: bool = True
    max_drop: float | None = None
    target_latency_s: float | None = None
    cautious: bool = False
    recovery: float = 0.0

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError("a search needs at least one layer")
        for layer, options in self.options.items():
            _require_options(layer, options)
        if not (math.isfinite(self.dense_metric) and math.isfinite(self.rest_s)):
            raise ValueError(
                f"dense_metric and rest_s must be finite, got {self.dense_metric}, {self.rest_s}"
            )
        self._require_question()

    def _require_question(self) -> None:
        if self.max_drop is None and self.target_latency_s is None:
            raise UsageError(
                "the search has no goal: neither a largest drop nor a latency target is given",
                hint="give a largest drop, a target latency or a speed-up (goal: in a recipe)",
            )
        if self.max_drop is not None and not 0.0 <= self.max_drop < math.inf:
            raise UsageError(f"the largest drop must be 0 or more, got {self.max_drop:g}")
        if self.target_latency_s is not None and not 0.0 < self.target_latency_s < math.inf:
            raise UsageError(
                f"the latency target must be above 0 seconds, got {self.target_latency_s:g}"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names, in order."""
        return tuple(self.options)

    def drop(self, metric: float) -> float:
        """How much worse than dense ``metric`` is; negative when it is better."""
        return self.dense_metric - metric if self.higher_is_better else metric - self.dense_metric

    def latency_s(self, plan: Plan) -> float:
        """Predicted latency of a plan: its layers and the rest, seconds.

        Raises:
            ValueError: the plan names other layers, or a choice that its layer does not have.
        """
        chosen = dict(plan.items())
        if chosen.keys() != self.options.keys():
            raise ValueError("the plan names other layers than the problem")
        return float(
            self.rest_s
            + sum(self._find(layer, choice).latency_s for layer, choice in chosen.items())
        )

    def _find(self, layer: str, choice: LayerChoice) -> Option:
        for option in self.options[layer]:
            if option.choice == choice:
                return option
        raise ValueError(f"layer {layer!r} has no option {choice}")

    def excess(self, latency_s: float, drop: float) -> float:
        """By how much a plan breaks the constraint the search works under; <= 0 when it keeps it.

        With a latency target: the fraction of it above the target; else the drop in excess of
        ``max_drop``.
        """
        if self.target_latency_s is not None:
            # sums of the same latencies in another order differ by some units of rounding
            return latency_s / self.target_latency_s - 1.0 - 1e-12
        return self.excess_drop(drop)

    def excess_drop(self, drop: float) -> float:
        """By how much ``drop`` breaks ``max_drop``; <= 0 when it keeps it or none was given."""
        if self.max_drop is None:
            return -math.inf
        return drop - self.max_drop - ROUNDING * abs(self.dense_metric)

    def cost(self, latency_s: float, drop: float) -> float:
        """What the search minimises among plans that keep the constraint."""
        return latency_s if self.target_latency_s is None else drop

    def fingerprint(self) -> str:
        """Digest of what was measured: the options, the rest, the dense metric and its direction.

        Not of the question: evaluations answer another ``max_drop`` or target just as well.
        """
        lines = [f"{self.rest_s:.9g} {self.dense_metric:.9g} {self.higher_is_better}"]
        for layer, options in self.options.items():
            lines += [f"{layer}:", *(f"{o.choice} {o.latency_s:.9g} {o.harm:.9g}" for o in options)]
        return digest_text(*lines)

    def prices(self) -> str:
        """Digest of the options' latencies and the rest: what is known before any harm is."""
        lines = [f"{self.rest_s:.9g}"]
        for layer, options in self.options.items():
            lines += [f"{layer}:", *(f"{o.choice} {o.latency_s:.9g}" for o in options)]
        return digest_text(*lines)


def largest_drop(problems: Sequence[SearchProblem]) -> float | None:
    """The largest drop that is of interest to one of the questions; None: any may be.

    A plan that loses more answers none of them.
    """
    drops = [problem.max_drop for problem in problems]
    return None if None in drops else max(drop for drop in drops if drop is not None)


def cut(problem: SearchProblem) -> dict[str, tuple[Option, ...]]:
    """Per layer, the options that no other beats in both latency and harm, fastest first."""
    return {layer: undominated(options) for layer, options in problem.options.items()}


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known before the search spends anything.

    Attributes:
        layers: number of layers.
        options, options_kept: options of all layers, before and after the dominated ones went.
        log10_plans, log10_plans_kept: number of plans before and after, as a power of ten.
        fastest_s: predicted latency of the fastest plan.
        dense_s: predicted latency of the dense plan, on the same kernels.
        target_s: the latency target, when there is one.
    """

    layers: int
    options: int
    options_kept: int
    log10_plans: float
    log10_plans_kept: float
    fastest_s: float
    dense_s: float
    target_s: float | None

    @property
    def satisfiable(self) -> bool:
        """Whether some plan is predicted to meet the target; a drop cannot be judged unmeasured."""
        return self.target_s is None or self.fastest_s <= self.target_s

    def rows(self) -> tuple[tuple[str, float | int | bool | None], ...]:
        """Label and value of each fact, in the order of a table; times in seconds."""
        return (
            ("layers", self.layers),
            ("options", self.options),
            ("options after cuts", self.options_kept),
            ("plans (log10)", self.log10_plans),
            ("plans after cuts (log10)", self.log10_plans_kept),
            ("fastest plan (s)", self.fastest_s),
            ("dense plan (s)", self.dense_s),
            ("target (s)", self.target_s),
            ("satisfiable", self.satisfiable),
        )


def preflight(problem: SearchProblem) -> Preflight:
    """Count the space and find the range of latencies that plans can reach."""
    kept = cut(problem)
    return Preflight(
        layers=len(kept),
        options=sum(map(len, problem.options.values())),
        options_kept=sum(map(len, kept.values())),
        log10_plans=sum(math.log10(len(options)) for options in problem.options.values()),
        log10_plans_kept=sum(math.log10(len(options)) for options in kept.values()),
        fastest_s=float(problem.rest_s + sum(options[0].latency_s for options in kept.values())),
        dense_s=problem.latency_s(Plan.dense(problem.layers)),
        target_s=problem.target_latency_s,
    )


def require_reachable(problem: SearchProblem) -> None:
    """Refuse a latency target that no plan is predicted to meet.

    Raises:
        BudgetError: the target is below the fastest plan; the text names that plan's latency.
    """
    known = preflight(problem)
    if not known.satisfiable:
        raise BudgetError(
            f"no plan is predicted to take {milliseconds(known.target_s or 0.0)} or less: "
            f"the fastest takes {milliseconds(known.fastest_s)}, "
            f"the dense one {milliseconds(known.dense_s)}",
            hint=f"ask for {milliseconds(no_less(known.fastest_s))} or more, "
            "or profile more blocks and sparsities",
        )


def milliseconds(latency_s: float) -> str:
    """Write a latency for a message.

    Example:
        >>> milliseconds(0.0012345)
        '1.23 ms'
    """
    return f"{latency_s * 1e3:.3g} ms"


def no_less(value: float) -> float:
    """Round a positive number up to two digits, so that following a hint works.

    Example:
        >>> no_less(0.01312), no_less(0.02)
        (0.014, 0.02)
    """
    near = float(f"{value:.1e}")
    if near >= value * (1.0 - 1e-12):  # a difference such as 0.9 - 0.895 counts as 0.005
        return near
    digit = 10.0 ** (math.floor(math.log10(near)) - 1)
    return float(f"{near + digit:.1e}")


def _require_options(layer: str, options: tuple[Option, ...]) -> None:
    choices = [option.choice for option in options]
    if not any(choice.is_dense for choice in choices):
        raise ValueError(f"layer {layer!r} has no dense option")
    if len(set(choices)) != len(choices):
        raise ValueError(f"layer {layer!r} has the same choice twice")
    if not all(math.isfinite(option.latency_s + option.harm) for option in options):
        raise ValueError(f"layer {layer!r}: latency and harm must be finite")
