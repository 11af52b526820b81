"""Points of a search space, drawn by Optuna's samplers as a function of seed and history.

Every draw asks a sampler with its own seed about a study held in memory that mirrors the
completed trials. So what is drawn does not depend on what the process did before, on failed
trials, or on the storage; and the stored study stays a neutral record, which another question
(another ``max_drop``) can be asked about.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from pruneaug_cli.search.judged import judged_drops
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.strategies.contract import Category, Real, Space
from pruneaug_cli.search.trial import Parameters, Trial

_STARTUP = 10  # trials before the estimator is trusted: optuna's default
_POPULATION = 20  # searches of some 100 trials have few generations of optuna's default of 50


def distribution(parameter: Real | Category) -> BaseDistribution:
    """A parameter in Optuna's words."""
    if isinstance(parameter, Category):
        return CategoricalDistribution(parameter.words)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)


class Sampler:
    """One draw: all chance of one proposal. See :class:`~.strategies.contract.Draw`."""

    def __init__(self, *, seed: int, known: int, attempt: int) -> None:
        """Seed the draw from the search's seed, the number of known trials and the attempt."""
        self._seeds = np.random.SeedSequence((seed, known, attempt))
        self._attempt = attempt
        self._rng = np.random.default_rng(self._seeds)

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers."""
        return self._rng

    @property
    def attempt(self) -> int:
        """How often the strategy was asked already since the last new plan."""
        return self._attempt

    def uniformly(self, space: Space) -> Parameters:
        """A random point of ``space``."""
        return self._ask(optuna.samplers.RandomSampler(seed=self._next_seed()), space, ())

    def tpe(self, space: Space, problem: SearchProblem, trials: Sequence[Trial]) -> Parameters:
        """The point that multivariate TPE suggests; random while few trials lie in ``space``.

        References:
            Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011; with
            constraints as in Watanabe and Hutter, "c-TPE", IJCAI 2023 (Optuna's is simpler:
            trials that break the constraint rank after all that keep it, by excess).
        """
        sampler = optuna.samplers.TPESampler(
            multivariate=True, n_startup_trials=_STARTUP, seed=self._next_seed()
        )
        mirror = [
            _mirrored(trial, drop, problem, space, [problem.cost(trial.predicted_latency_s, drop)])
            for trial, drop in _placed(problem, trials, space)
        ]
        return self._ask(sampler, space, mirror)

    def nsga2(self, space: Space, problem: SearchProblem, trials: Sequence[Trial]) -> Parameters:
        """The child that NSGA-II breeds; random in the first generation.

        Every ``_POPULATION`` trials are a generation, in their order.

        References:
            Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans.
            Evolutionary Computation 6(2), 2002; constrained domination as in its section VI.
        """
        sampler = optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=self._next_seed())
        mirror = [
            _mirrored(
                trial, drop, problem, space, [trial.predicted_latency_s, drop],
                # where optuna's genetic samplers keep it; a test sees that they read it
                {"NSGAIISampler:generation": index // _POPULATION},
            )
            for index, (trial, drop) in enumerate(_placed(problem, trials, space))
        ]  # fmt: skip
        return self._ask(sampler, space, mirror, objectives=2)

    def _ask(
        self,
        sampler: optuna.samplers.BaseSampler,
        space: Space,
        mirror: Sequence[optuna.trial.FrozenTrial],
        *,
        objectives: int = 1,
    ) -> Parameters:
        with quiet_optuna():
            study = optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)
            study.add_trials(mirror)
            asked = study.ask({name: distribution(space[name]) for name in space})
        return cast("Parameters", dict(asked.params))

    def _next_seed(self) -> int:
        return int(self._rng.integers(2**31))


class quiet_optuna:  # noqa: N801  a context manager reads as a verb
    """Keeps Optuna's own log below warnings inside a ``with`` block, and restores its level."""

    def __enter__(self) -> None:
        self._level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def __exit__(self, *_: object) -> None:
        optuna.logging.set_verbosity(self._level)


def _placed(
    problem: SearchProblem, trials: Sequence[Trial], space: Space
) -> list[tuple[Trial, float]]:
    """Those with a place in the space, and what they count as losing."""
    judged = zip(trials, judged_drops(problem, trials), strict=True)
    return [(trial, drop) for trial, drop in judged if trial.parameters.keys() == space.keys()]


def _mirrored(
    trial: Trial,
    drop: float,
    problem: SearchProblem,
    space: Space,
    objectives: Sequence[float],
    system: Mapping[str, int] | None = None,
) -> optuna.trial.FrozenTrial:
    """A trial in Optuna's words, with its constraint (what ``constraints_func`` did before 5.0)."""
    return optuna.trial.create_trial(
        params=dict(trial.parameters),
        distributions={name: distribution(parameter) for name, parameter in space.items()},
        values=list(objectives),
        system_attrs=dict(system or {}),
        constraints={"excess": problem.excess(trial.predicted_latency_s, drop)},
    )
