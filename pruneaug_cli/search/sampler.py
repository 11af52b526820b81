"""Points of a search space, drawn by Optuna's samplers as a function of seed and history.

Every draw asks a sampler with its own seed about a study held in memory that mirrors the
completed trials. So what is drawn does not depend on what the process did before, on failed
trials, or on the storage; and the stored study stays a neutral record, which another question
(another ``max_drop``) can be asked about.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.strategies.contract import Category, Real, Space
from pruneaug_cli.search.trial import Parameters, Trial

_STARTUP = 10  # trials before the estimator is trusted: optuna's default


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
        placed = [trial for trial in trials if trial.parameters.keys() == space.keys()]
        distributions = {name: distribution(parameter) for name, parameter in space.items()}
        mirror = [_mirrored(trial, problem, distributions) for trial in placed]
        return self._ask(sampler, space, mirror)

    def _ask(
        self,
        sampler: optuna.samplers.BaseSampler,
        space: Space,
        mirror: Sequence[optuna.trial.FrozenTrial],
    ) -> Parameters:
        with quiet_optuna():
            study = optuna.create_study(sampler=sampler)
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


def _mirrored(
    trial: Trial, problem: SearchProblem, distributions: dict[str, BaseDistribution]
) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(
        params=dict(trial.parameters),
        distributions=distributions,
        value=problem.cost(trial.predicted_latency_s, trial.metric),
        constraints={"excess": problem.excess(trial.predicted_latency_s, trial.metric)},
    )
