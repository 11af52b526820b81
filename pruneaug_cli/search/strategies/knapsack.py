"""Searches the coefficients of the layers' harms and a budget, with the exact knapsack inside.

A point of the space is one coefficient per layer and a latency budget; its plan is the one with
the least sum of coefficient times harm within the budget. Steps, each named as origin of its
trials:

- ``ladder``: all coefficients 1, over a range of budgets: a first front of the whole space;
- ``bisection``: towards the dense plan, as long as no plan keeps the drop;
- ``uniform``: after the first trials, up to a quarter of them go to the best uniform plan, the
  yardstick;
- ``fit``: of plans for several budgets, under coefficients sampled from what the trials say about
  them, the one of the largest expected improvement (``forecast``);
- ``tpe``: every eighth trial, and when fits keep repeating themselves: what Optuna's TPE suggests
  from the same trials. It assumes no law, and so insures against the fit's being wrong;
- ``filling``: where nothing better is new, all coefficients 1 and a random budget: the front.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pruneaug_cli.core import LayerChoice, Option, Plan
from pruneaug_cli.search.forecast import Encoded, Forecast, forecast
from pruneaug_cli.search.judged import TELLING, reference_drop
from pruneaug_cli.search.knapsack import Floats, KnapsackTable, solve_knapsack
from pruneaug_cli.search.problem import SearchProblem, cut
from pruneaug_cli.search.sensitivity import Sensitivity
from pruneaug_cli.search.strategies.contract import Draw, Proposal, Real, Space
from pruneaug_cli.search.strategies.uniform import next_uniform
from pruneaug_cli.search.trial import UNIFORM, Parameters, Trial, incumbent, judged_drop

LADDER = "ladder"
BISECTION = "bisection"
FIT = "fit"
TPE = "tpe"
FILLING = "filling"

_COEFFICIENT = "coefficient:"
_BUDGET = "budget_s"
_RANGE = 64.0  # coefficients lie within this factor of their geometric mean
_RUNGS = 2  # fits find the budget from there in fewer trials than more rungs do
_UNIFORM_SHARE = 0.25
_UNIFORM_AFTER = 8
_TPE_EVERY = 8
_LAST_RESORT = 16  # attempts
_PATIENCE = 4  # fits that repeat known plans before TPE is asked instead
_BOLDNESS = (0.0, 0.5, 1.0, 1.0)
_BUDGETS = 16  # of a front, that are looked at
_HOPELESS = 4.0  # standard errors by which a plan loses too much
_STEPS = (0.005, 0.01, 0.03)  # by which fraction a plan should be faster than the best so far


@dataclass(frozen=True, slots=True)
class Learnt:
    """What trials say of a layer's coefficient: its value, and one standard deviation about it.

    Relative to the geometric mean of all layers: above 1, the layer's harm matters more to the
    metric than its share of the sum of harms says.
    """

    value: float
    low: float
    high: float


class KnapsackStrategy:
    """The default strategy; see the module."""

    def space(self, problem: SearchProblem) -> Space:
        """A coefficient per layer, even in its logarithm, and a budget for the whole model."""
        return _prepare(problem).space

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """Take the first step that has something to say."""
        if draw.attempt == 0:
            opening = (
                _ladder(problem, trials)
                or _bisection(problem, trials)
                or _yardstick(problem, trials)
            )
            if opening is not None:
                return opening
        if draw.attempt >= _LAST_RESORT:
            return _filling(problem, draw)
        turn = len(trials) + draw.attempt
        if turn % _TPE_EVERY == 0 or draw.attempt >= _PATIENCE:
            return _suggested(problem, trials, draw)
        return _fitted(problem, trials, draw) or _suggested(problem, trials, draw)


@dataclass(frozen=True, slots=True, eq=False)
class _Layers:
    """A problem's undominated options as arrays, and the space over them.

    ``codes``: harm and number of the block of every choice, dominated ones too.
    """

    options: Mapping[str, tuple[Option, ...]]
    latencies_s: tuple[Floats, ...]
    harms: tuple[Floats, ...]
    codes: Mapping[tuple[str, LayerChoice], tuple[float, int]]
    rest_s: float
    space: Space

    @property
    def budget(self) -> Real:
        """From the fastest plan to the dense one."""
        budget = self.space[_BUDGET]
        assert isinstance(budget, Real)  # noqa: S101  made so by _prepare
        return budget

    def solve(self, coefficients: Floats) -> KnapsackTable:
        """All budgets, harms weighed by ``coefficients``."""
        weighed = [harm * c for harm, c in zip(self.harms, coefficients, strict=True)]
        # a plan of a front is half a tick per layer short of its budget: 0.25%, or with more than
        # 50 layers some more
        ticks = min(max(200 * len(weighed), 2000), 10_000)
        return solve_knapsack(self.latencies_s, weighed, ticks=ticks)

    def proposal(
        self,
        coefficients: Floats,
        budget_s: float,
        origin: str,
        table: KnapsackTable | None = None,
    ) -> Proposal:
        """The plan at a point, budgets outside the space moved to its edge."""
        budget_s = self._inside(budget_s)
        table = table or self.solve(coefficients)
        chosen = table.choose(max(budget_s - self.rest_s, table.floor_s))
        assert chosen is not None  # noqa: S101  the floor always fits
        return self._proposed(coefficients, budget_s, origin, chosen)

    def proposal_at(
        self, coefficients: Floats, tick: int, origin: str, table: KnapsackTable
    ) -> Proposal:
        """The plan of a front: sooner found, and at most a tick per layer short of its budget."""
        budget_s = self._inside(self.rest_s + float(table.budgets_s[tick]))
        return self._proposed(coefficients, budget_s, origin, table.choose_at(tick))

    def _inside(self, budget_s: float) -> float:
        return min(max(budget_s, self.budget.low), self.budget.high)

    def _proposed(
        self, coefficients: Floats, budget_s: float, origin: str, chosen: Sequence[int]
    ) -> Proposal:
        plan = {
            layer: options[index].choice
            for (layer, options), index in zip(self.options.items(), chosen, strict=True)
        }
        named = {
            f"{_COEFFICIENT}{layer}": float(c)
            for layer, c in zip(self.options, coefficients, strict=True)
        }
        return Proposal(Plan.of(plan), origin, {**named, _BUDGET: budget_s})

    def encode(self, plans: Sequence[Plan]) -> Encoded:
        """Harm and block of every layer's choice, as arrays."""
        shape = (len(plans), len(self.options))
        choices = map(dict, (plan.items() for plan in plans))
        codes = [self.codes[name, chosen[name]] for chosen in choices for name in self.options]
        harms, blocks = zip(*codes, strict=True) if codes else ((), ())
        return Encoded(
            np.array(harms, dtype=float).reshape(shape),
            np.array(blocks, dtype=np.int64).reshape(shape),
        )

    def coefficients(self, point: Parameters) -> Floats:
        """The coefficients at a point, in the order of the layers."""
        return np.array([float(point[f"{_COEFFICIENT}{layer}"]) for layer in self.options])


@lru_cache(maxsize=1)
def _prepare(problem: SearchProblem) -> _Layers:
    options = cut(problem)
    fastest = problem.rest_s + sum(of_layer[0].latency_s for of_layer in options.values())
    dense = problem.rest_s + sum(of_layer[-1].latency_s for of_layer in options.values())
    space: dict[str, Real] = {
        f"{_COEFFICIENT}{layer}": Real(1.0 / _RANGE, _RANGE, log=True) for layer in options
    }
    blocks = list(dict.fromkeys(o.choice.block for row in problem.options.values() for o in row))
    return _Layers(
        options=options,
        latencies_s=tuple(np.array([o.latency_s for o in row]) for row in options.values()),
        harms=tuple(np.array([o.harm for o in row]) for row in options.values()),
        codes={
            (name, option.choice): (option.harm, blocks.index(option.choice.block))
            for name, row in problem.options.items()
            for option in row
        },
        rest_s=problem.rest_s,
        space={**space, _BUDGET: Real(fastest, dense)},
    )


def _goal_s(problem: SearchProblem) -> float | None:
    """The latency target; where even the dense plan meets it, somewhat less than that takes."""
    if problem.target_latency_s is None:
        return None
    budget = _prepare(problem).budget
    return min(problem.target_latency_s, budget.low + 0.95 * (budget.high - budget.low))


def _ladder(problem: SearchProblem, trials: Sequence[Trial]) -> Proposal | None:
    for rung in range(sum(trial.origin == LADDER for trial in trials), _RUNGS):
        proposal = _rung(problem, rung)
        if _is_new(problem, trials, proposal):
            return proposal
    return None


def _rung(problem: SearchProblem, rung: int) -> Proposal:
    layers, goal_s = _prepare(problem), _goal_s(problem)
    if goal_s is not None:  # slower plans than the target tell how harm becomes a drop
        budget_s = goal_s * (1.0 + rung / _RUNGS)
    else:
        low, high = max(layers.budget.low, 1e-3 * layers.budget.high), layers.budget.high
        budget_s = low * (high / low) ** ((rung + 1) / (_RUNGS + 1)) if high > 0.0 else 0.0
    return layers.proposal(np.ones(len(layers.options)), budget_s, LADDER)


def _bisection(problem: SearchProblem, trials: Sequence[Trial]) -> Proposal | None:
    if problem.target_latency_s is not None or incumbent(problem, trials) is not None:
        return None
    if not trials:  # the ladder had nothing to say: no plan is faster than the dense one
        return None
    layers = _prepare(problem)
    slowest = max(trial.predicted_latency_s for trial in trials)
    budget_s = math.sqrt(slowest * layers.budget.high)
    proposal = layers.proposal(np.ones(len(layers.options)), budget_s, BISECTION)
    return proposal if _is_new(problem, trials, proposal) else None


def _is_new(problem: SearchProblem, trials: Sequence[Trial], proposal: Proposal) -> bool:
    """Whether an opening has something to say; what comes after it is asked where it has not."""
    plan = proposal.plan
    return plan != Plan.dense(problem.layers) and all(trial.plan != plan for trial in trials)


def _yardstick(problem: SearchProblem, trials: Sequence[Trial]) -> Proposal | None:
    allowed = _UNIFORM_SHARE * (len(trials) - _UNIFORM_AFTER)
    if sum(trial.origin == UNIFORM for trial in trials) >= allowed:
        return None
    plan = next_uniform(problem, trials)
    return None if plan is None else Proposal(plan, UNIFORM)


def _suggested(problem: SearchProblem, trials: Sequence[Trial], draw: Draw) -> Proposal:
    layers = _prepare(problem)
    point = draw.tpe(layers.space, problem, trials)
    goal_s, budget_s = _goal_s(problem), float(point[_BUDGET])
    if goal_s is None:
        budget_s = min(budget_s, _better_s(problem, trials, draw))
    elif draw.attempt < 2 * _PATIENCE:
        budget_s = goal_s
    else:  # the plans that use up the target are known: some that do not
        budget_s = min(budget_s, goal_s)
    return layers.proposal(layers.coefficients(point), budget_s, TPE)


def _fitted(problem: SearchProblem, trials: Sequence[Trial], draw: Draw) -> Proposal | None:
    """Of several fronts, each best under coefficients that may be true, the most promising plan."""
    layers, known = _prepare(problem), _forecast(problem, trials)
    seen = {trial.plan for trial in trials}
    found: dict[Plan, Proposal] = {}
    for boldness in _BOLDNESS:
        law = known.posterior.sample(draw.rng, boldness + 0.25 * draw.attempt)
        for proposal in _front(problem, trials, known, law):
            if proposal.plan not in seen:
                found.setdefault(proposal.plan, proposal)
    if not found:
        return None
    plans = layers.encode(list(found))
    if problem.target_latency_s is None:
        latencies_s = np.array([problem.latency_s(plan) for plan in found])
        best_s = _best_s(problem, trials)
        worth = known.faster(plans, latencies_s, best_s, cautious=problem.cautious)
    else:
        best = incumbent(problem, trials)
        least_drop = known.reference if best is None else judged_drop(problem, trials, best)
        worth = known.better(plans, least_drop, cautious=problem.cautious)
    return list(found.values())[int(worth.argmax())]


def _front(
    problem: SearchProblem, trials: Sequence[Trial], known: Forecast, law: Sensitivity
) -> Iterator[Proposal]:
    """Plans that are best under the law: for the target, or where the drop is about to be lost."""
    layers = _prepare(problem)
    mean = float(np.exp(np.log(law.coefficients).mean()))
    coefficients = np.clip(law.coefficients / mean, 1.0 / _RANGE, _RANGE)
    table = layers.solve(coefficients)
    goal_s = _goal_s(problem)
    if goal_s is not None:
        yield layers.proposal(coefficients, goal_s, FIT, table)
        return
    budgets_s = problem.rest_s + table.budgets_s
    faster = np.flatnonzero(budgets_s < _best_s(problem, trials))
    drops = known.on_line(law, mean * table.least_harms[faster])
    # where every faster plan is expected to lose too much, the slowest of them is the best try
    doubt = known.doubt if problem.cautious else known.error
    hopeful = np.append(faster[drops < known.reference + _HOPELESS * doubt], faster[-1:])
    places = np.linspace(0, hopeful.size - 1, _BUDGETS).astype(int) if hopeful.size else ()
    for place in sorted(set(places)):
        yield layers.proposal_at(coefficients, int(hopeful[place]), FIT, table)


def learnt_coefficients(problem: SearchProblem, trials: Sequence[Trial]) -> dict[str, Learnt]:
    """The coefficients by layer, most likely after ``trials``; empty after too few to tell."""
    if len(trials) < TELLING:
        return {}
    posterior = _forecast(problem, trials).posterior
    logs = posterior.mode[2:] - posterior.mode[2:].mean()
    spread = posterior.spread[2:] - posterior.spread[2:].mean(axis=0)
    deviations = np.sqrt((spread**2).sum(axis=1))
    return {
        layer: Learnt(float(np.exp(u)), float(np.exp(u - d)), float(np.exp(u + d)))
        for layer, u, d in zip(_prepare(problem).options, logs, deviations, strict=True)
    }


def _filling(problem: SearchProblem, draw: Draw) -> Proposal:
    layers = _prepare(problem)
    budget_s = float(draw.rng.uniform(layers.budget.low, layers.budget.high))
    return layers.proposal(np.ones(len(layers.options)), budget_s, FILLING)


def _forecast(problem: SearchProblem, trials: Sequence[Trial]) -> Forecast:
    plans = _prepare(problem).encode([trial.plan for trial in trials])
    drops = np.array([problem.drop(trial.metric) for trial in trials])
    return forecast(plans, drops, trials, reference=reference_drop(problem, trials))


def _best_s(problem: SearchProblem, trials: Sequence[Trial]) -> float:
    """Latency of the best plan so far; of the dense one where there is none."""
    best = incumbent(problem, trials)
    return _prepare(problem).budget.high if best is None else best.predicted_latency_s


def _better_s(problem: SearchProblem, trials: Sequence[Trial], draw: Draw) -> float:
    """A budget that the best plan so far does not meet."""
    best = incumbent(problem, trials)
    if best is None:
        return math.inf
    step = _STEPS[(len(trials) + draw.attempt) % len(_STEPS)]
    return best.predicted_latency_s * (1.0 - step)
