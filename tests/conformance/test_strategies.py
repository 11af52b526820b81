"""What every search strategy promises, on a problem whose answer does not add up over layers.

Twelve layers with latencies as measured kernels have them (a part that shrinks with density, a
part that does not; larger blocks more efficient) and harms that are off by a hidden factor per
layer and block. The metric falls with the true harms and with their products between neighbours,
saturates, and is rounded to the samples of a test set.
"""

import itertools
import math
import re
from typing import get_type_hints

import numpy as np
import pytest

from pruneaug_cli.app.recipe import SearchSettings
from pruneaug_cli.cli.commands.search import search
from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option, Plan
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.search import STRATEGIES, SearchProblem, run_search
from pruneaug_cli.search.sampler import Sampler
from pruneaug_cli.search.strategies.contract import Real
from pruneaug_cli.search.trial import Trial, answer, front_of, incumbent

BLOCKS = {"4x1": (0.55, 1.0), "8x1": (0.8, 1.35), "16x1": (0.95, 1.9), "8x2": (0.9, 2.1)}
SPARSITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.875, 0.925)
SAMPLES = 2000


class Network:
    """A search problem and its evaluation, without a network."""

    def __init__(self, seed=0, layers=12, blocks=BLOCKS, **question):
        self.blocks = blocks
        rng = np.random.default_rng(seed)
        names = [f"layer{index}" for index in range(layers)]
        self.truth = {(name, DENSE): 0.0 for name in names}
        self.pairs = np.exp(rng.normal(0.0, 1.0, layers - 1))
        options = {name: self._options(name, rng) for name in names}
        self.problem = SearchProblem(options, 5e-5, 0.9, **(question or {"max_drop": 0.01}))

    def _options(self, name, rng):
        seconds, ease, sensitivity = np.exp(rng.normal([math.log(8e-5), 0.0, 0.0], [0.5, 0.4, 1.0]))
        options = [Option(DENSE, float(seconds), 0.0)]
        for block, (efficiency, roughness) in self.blocks.items():
            error = math.exp(0.25 * rng.normal())
            for sparsity in SPARSITIES:
                choice = LayerChoice(BlockShape.parse(block), sparsity)
                harm = 0.01 * roughness * ease * (sparsity / (1.0 - sparsity)) ** 1.5
                latency_s = seconds * ((1.0 - sparsity) / efficiency + 0.04)
                options.append(Option(choice, float(latency_s), float(harm)))
                self.truth[name, choice] = float(sensitivity * error * harm)
        return tuple(options)

    def evaluate(self, plan):
        harms = np.array([self.truth[item] for item in plan.items()])
        total = harms.sum() + 0.5 * (self.pairs * np.sqrt(harms[1:] * harms[:-1])).sum()
        return round((0.1 + 0.8 * math.exp(-0.08 * total**1.2)) * SAMPLES) / SAMPLES


def explore(strategy, network, evaluations, seed=0):
    """The trials of a search, without a storage; fewer when the strategy has no more to give."""
    problem, trials, seen = network.problem, [], {Plan.dense(network.problem.layers)}
    while len(trials) < evaluations:
        draws = (Sampler(seed=seed, known=len(trials), attempt=attempt) for attempt in range(32))
        proposals = (strategy.propose(problem, trials, draw) for draw in draws)
        proposal = next((p for p in proposals if p is None or p.plan not in seen), None)
        if proposal is None:
            break
        seen.add(proposal.plan)
        trials.append(
            Trial(
                len(trials), proposal.plan, problem.latency_s(proposal.plan),
                network.evaluate(proposal.plan), 0.0, proposal.origin, proposal.parameters,
            )
        )  # fmt: skip
    return trials


class StrategyConformance:
    """Inherited by a test class per strategy; ``name`` is its name in ``STRATEGIES``."""

    name = ""
    blocks = BLOCKS
    questions = ({"max_drop": 0.02}, {"target_latency_s": 7e-4})

    @pytest.fixture
    def strategy(self):
        return STRATEGIES.create(self.name)

    @pytest.fixture(params=questions, ids=["drop", "target"])
    def network(self, request):
        return Network(blocks=self.blocks, **request.param)

    def test_plans_name_every_layer_and_choices_it_has(self, strategy, network):
        choices = {
            name: {option.choice for option in options}
            for name, options in network.problem.options.items()
        }
        for trial in explore(strategy, network, 20):
            assert tuple(trial.plan) == network.problem.layers
            assert all(choice in choices[layer] for layer, choice in trial.plan.items())

    def test_parameters_lie_in_the_space(self, strategy, network):
        space = strategy.space(network.problem)
        for trial in explore(strategy, network, 20):
            assert trial.parameters.keys() <= space.keys()
            for name, value in trial.parameters.items():
                if isinstance(space[name], Real):
                    assert space[name].low <= value <= space[name].high
                else:
                    assert value in space[name].words

    def test_a_proposal_is_a_function_of_problem_history_and_draw(self, strategy, network):
        trials = explore(strategy, network, 12)
        for known in (0, 3, 12):
            fresh = STRATEGIES.create(self.name)
            first, second = (
                one.propose(
                    network.problem, trials[:known], Sampler(seed=1, known=known, attempt=1)
                )
                for one in (strategy, fresh)
            )
            assert first == second

    def test_the_seed_decides_the_search(self, network):
        first, second = (explore(STRATEGIES.create(self.name), network, 15, seed=3) for _ in "12")
        assert first == second

    def test_all_evaluations_are_of_new_plans(self, strategy, network):
        plans = [trial.plan for trial in explore(strategy, network, 20)]
        assert len(set(plans)) == len(plans) == 20

    def test_a_search_keeps_to_its_number_and_goes_on_where_it_stood(self, tmp_path):
        network, asked = Network(layers=3, blocks=self.blocks, target_latency_s=2.5e-4), []

        def evaluate(plan):
            asked.append(plan)
            return network.evaluate(plan)

        def search(trials):
            return run_search(
                network.problem, evaluate, strategy=self.name,
                storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="s", trials=trials,
            )  # fmt: skip

        search(4)
        found = search(6)
        assert len(asked) == 6
        assert asked == [trial.plan for trial in found.trials]
        assert asked == [t.plan for t in explore(STRATEGIES.create(self.name), network, 6)]

    def test_the_answer_is_the_best_feasible_trial_and_the_front_is_one(self, strategy, network):
        problem, trials = network.problem, explore(strategy, network, 20)
        judged = [(t.predicted_latency_s, problem.drop(t.metric)) for t in trials]
        feasible = [one for one in judged if problem.excess(*one) <= 0.0]
        assert (incumbent(problem, trials) is None) == (not feasible)
        if feasible:
            best = answer(problem, trials)
            cost = problem.cost(best.predicted_latency_s, problem.drop(best.metric))
            assert cost == min(problem.cost(*one) for one in feasible)
        front = front_of(problem, trials)
        assert all(
            a.predicted_latency_s < b.predicted_latency_s and a.metric < b.metric
            for a, b in itertools.pairwise(front)
        )

    def test_what_cannot_be_answered_is_refused(self, strategy):
        hopeless = Network(blocks=self.blocks, max_drop=0.0)
        hopeless.evaluate = lambda plan: 0.1
        trials = explore(strategy, hopeless, 8)
        with pytest.raises(BudgetError, match=r"none of 8 plans evaluated loses 0 or less"):
            answer(hopeless.problem, trials)


class TestKnapsack(StrategyConformance):
    name = "knapsack"

    def test_finds_what_no_uniform_choice_can(self):
        ratios = []
        for seed in range(4):
            network = Network(seed)
            best = answer(network.problem, explore(STRATEGIES.create("knapsack"), network, 40))
            uniform = explore(STRATEGIES.create("uniform"), network, 32)  # all there are
            yardstick = answer(network.problem, uniform)
            ratios.append(best.predicted_latency_s / yardstick.predicted_latency_s)
        assert max(ratios) < 0.93
        assert np.mean(ratios) < 0.8


class TestTpe(StrategyConformance):
    name = "tpe"


class TestRandom(StrategyConformance):
    name = "random"


class TestNsga2(StrategyConformance):
    name = "nsga2"


class TestUniform(StrategyConformance):
    name = "uniform"


class TestGreedy(StrategyConformance):
    name = "greedy"


class TestHalp(StrategyConformance):
    name = "halp"


class TestSmallest(StrategyConformance):
    name = "smallest"


class TestLargest(StrategyConformance):
    name = "largest"


class TestSquarest(StrategyConformance):
    name = "squarest"


class TestTallest(StrategyConformance):
    name = "tallest"


class TestWidest(StrategyConformance):
    name = "widest"


class TestRandomBlock(StrategyConformance):
    name = "random-block"


class TestUnstructured(StrategyConformance):
    name = "unstructured"
    blocks = BLOCKS | {"1x1": (0.3, 0.6)}


def test_every_registered_strategy_is_tested_here():
    tested = {suite.name for suite in StrategyConformance.__subclasses__()}
    assert tested == set(STRATEGIES)


def test_the_recipe_and_the_help_name_every_strategy():
    described = SearchSettings.model_fields["strategy"].description
    helped = get_type_hints(search, include_extras=True)["strategy"].__metadata__[0].help
    for text in (described, helped):
        assert set(STRATEGIES) == set(re.findall(r"[a-z0-9-]+", text)) & set(STRATEGIES)
