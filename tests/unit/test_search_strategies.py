"""What each strategy does by its own rules; the rules they share are in the conformance suite."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option, Plan
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.search import STRATEGIES, SearchProblem, Trial, solve_knapsack
from pruneaug_cli.search.sampler import Sampler
from pruneaug_cli.search.strategies.direct import DENSE_WORD, decode, direct_space
from pruneaug_cli.search.strategies.greedy import greedy_path
from pruneaug_cli.search.strategies.halp import halp_path
from pruneaug_cli.search.strategies.knapsack import KnapsackStrategy
from pruneaug_cli.search.strategies.uniform import next_uniform, uniform_plans

SPARSITIES = (0.3, 0.5, 0.7, 0.9)
BLOCKS = (BlockShape(4, 1), BlockShape(8, 1))


def row(weight=1.0, blocks=BLOCKS):
    pruned = [
        Option(LayerChoice(block, s), 1e-3 * (1.05 - s), weight * block.rows * s * s / 100.0)
        for block, s in itertools.product(blocks, SPARSITIES)
    ]
    return (Option(DENSE, 1e-3, 0.0), *pruned)


def make(**question):
    options = {"first": row(2.0), "second": row(), "last": row(blocks=BLOCKS[:1])}
    return SearchProblem(options, 1e-4, 0.9, **(question or {"max_drop": 0.1}))


def metric(problem, plan):
    harm = {(n, o.choice): o.harm for n, row in problem.options.items() for o in row}
    return 0.9 - sum(harm[layer, choice] for layer, choice in plan.items())


def evaluated(problem, plans):
    return [
        Trial(number, plan, problem.latency_s(plan), metric(problem, plan), 0.0, "uniform")
        for number, plan in enumerate(plans)
    ]


def climb(problem):
    plans = []
    while (plan := next_uniform(problem, evaluated(problem, plans))) is not None:
        plans.append(plan)
    return plans


def test_layers_without_the_choice_stay_dense_in_a_uniform_plan():
    _, plan = uniform_plans(make())[BLOCKS[1]][0]
    assert plan == Plan.of(
        {"first": LayerChoice(BLOCKS[1], 0.9), "second": LayerChoice(BLOCKS[1], 0.9), "last": DENSE}
    )


def test_bisection_finds_the_best_uniform_plan_without_trying_all():
    problem = make()
    tried = climb(problem)
    everything = [plan for ladder in uniform_plans(problem).values() for _, plan in ladder]
    kept = [
        plan
        for plan in everything
        if problem.excess_drop(problem.drop(metric(problem, plan))) <= 0.0
    ]
    assert min(kept, key=problem.latency_s) in tried
    assert len(tried) < len(everything)


def test_with_a_target_each_block_is_tried_at_its_gentlest_plan_within():
    problem = make(target_latency_s=2.2e-3)
    tried = climb(problem)
    assert len(tried) == len(BLOCKS)
    for ladder, plan in zip(uniform_plans(problem).values(), tried, strict=True):
        within = [plan for latency, plan in ladder if latency <= 2.2e-3]
        assert plan == within[-1]


def test_the_direct_space_takes_the_named_blocks_within_the_networks_sparsity():
    problem = make()
    point = {"block:first": "8x1", "block:second": "4x1", "block:last": "dense", "sparsity": 0.4}
    plan = decode(problem, point)
    assert plan["last"] == DENSE
    assert plan["first"].block == BLOCKS[1]
    assert sum(choice.sparsity for _, choice in plan.items()) / 3 <= 0.4
    # harm is shared evenly: the gentler block of the layer that matters less is cut more
    assert plan["second"].sparsity > plan["first"].sparsity


@pytest.mark.parametrize(("sparsity", "expected"), [(0.0, 0.0), (0.9, 0.9)])
def test_the_ends_of_the_direct_space_are_reached(sparsity, expected):
    problem = make()
    point = dict.fromkeys(direct_space(problem), "4x1") | {"sparsity": sparsity}
    assert [choice.sparsity for _, choice in decode(problem, point).items()] == [expected] * 3


def test_the_ladder_comes_first_with_all_coefficients_one():
    problem, strategy = make(), KnapsackStrategy()
    proposal = strategy.propose(problem, [], Sampler(seed=0, known=0, attempt=0))
    assert proposal.origin == "ladder"
    assert {proposal.parameters[f"coefficient:{layer}"] for layer in problem.layers} == {1.0}


def test_without_a_feasible_plan_the_budget_is_bisected_towards_dense():
    problem, strategy = make(max_drop=1e-6), KnapsackStrategy()
    budgets, trials = [], []
    for known in range(5):
        proposal = strategy.propose(problem, trials, Sampler(seed=0, known=known, attempt=0))
        latency_s = problem.latency_s(proposal.plan)
        budgets.append((proposal.origin, proposal.parameters["budget_s"]))
        trials.append(Trial(known, proposal.plan, latency_s, 0.5, 0.0, proposal.origin))
    assert [origin for origin, _ in budgets] == ["ladder"] * 2 + ["bisection"] * 3
    rising = [budget for _, budget in budgets[1:]] + [problem.latency_s(Plan.dense(problem.layers))]
    assert all(before < after for before, after in itertools.pairwise(rising))


@pytest.mark.parametrize("layers", [4, 8])
def test_openings_that_say_nothing_new_do_not_keep_the_yardstick_from_coming(layers):
    """Half as slow again as the target is dense here, and was tried: the rung is passed over."""
    problem = SearchProblem(
        {str(n): row() for n in range(layers)}, 0.0, 1.0, target_latency_s=0.8e-3 * layers
    )
    strategy, trials = KnapsackStrategy(), []
    for number in range(24):
        for attempt in range(8):
            draw = Sampler(seed=0, known=number, attempt=attempt)
            plan = strategy.propose(problem, trials, draw)
            if plan.plan not in {t.plan for t in trials} | {Plan.dense(problem.layers)}:
                break
        trials += [replace(evaluated(problem, [plan.plan])[0], number=number, origin=plan.origin)]
    assert any(trial.origin == "uniform" for trial in trials)


def test_a_fit_asks_for_less_than_the_best_plan_takes():
    problem, strategy = make(), KnapsackStrategy()
    trials = evaluated(problem, climb(problem))
    best = min(
        t.predicted_latency_s for t in trials if problem.excess_drop(problem.drop(t.metric)) <= 0.0
    )
    proposal = strategy.propose(problem, trials, Sampler(seed=0, known=9, attempt=1))
    assert proposal.origin == "fit"
    assert problem.latency_s(proposal.plan) < best


def test_where_nothing_better_is_new_the_front_is_filled():
    problem, strategy = make(), KnapsackStrategy()
    trials = evaluated(problem, climb(problem))
    proposals = [
        strategy.propose(problem, trials, Sampler(seed=seed, known=9, attempt=16))
        for seed in range(8)
    ]
    assert {proposal.origin for proposal in proposals} == {"filling"}
    assert len({proposal.plan for proposal in proposals}) > 4


def test_an_unknown_strategy_is_refused_with_the_nearest_name():
    with pytest.raises(UnsupportedError, match="unknown search strategy 'knapsak'") as refusal:
        STRATEGIES.create("knapsak")
    assert refusal.value.hint == "did you mean 'knapsack'?"


def test_no_plan_within_the_budget_of_a_greedy_one_does_less_harm():
    """Where the continuous relaxation is whole, greedy is exact."""
    problem = make()
    rows = problem.options.values()
    latencies = [np.array([option.latency_s for option in row]) for row in rows]
    harms = [np.array([option.harm for option in row]) for row in rows]
    table = solve_knapsack(latencies, harms, ticks=60_000)
    path = greedy_path(problem)
    assert len(path) > 6
    for latency_s, plan in path:
        chosen = table.choose(latency_s - problem.rest_s + 5 * table.tick_s)
        least = sum(harm[index] for harm, index in zip(harms, chosen, strict=True))
        assert 0.9 - metric(problem, plan) == pytest.approx(least)


def test_the_greedy_path_ends_with_the_fastest_plan():
    problem = make()
    fastest = sum(min(o.latency_s for o in row) for row in problem.options.values())
    assert greedy_path(problem)[0][0] == pytest.approx(problem.rest_s + fastest)


def test_halps_steps_prune_on_from_each_other_in_the_same_blocks():
    path = halp_path(make())
    assert len(path) > 6
    for (_, after), (_, before) in itertools.pairwise(path):
        for layer, choice in before.items():
            assert after[layer].sparsity >= choice.sparsity
            assert choice.is_dense or after[layer].block == choice.block


def test_a_path_with_a_target_is_walked_from_the_slowest_plan_within_it():
    problem = make(target_latency_s=2.2e-3)
    path = greedy_path(problem)
    within = [plan for latency_s, plan in path if latency_s <= 2.2e-3]
    beyond = [plan for latency_s, plan in path if latency_s > 2.2e-3]
    assert everything_of("greedy", problem) == [*reversed(within), *beyond]


def test_a_path_with_a_drop_is_bisected_and_then_left_no_gap():
    problem = make()
    asked = everything_of("greedy", problem)
    path = [plan for _, plan in greedy_path(problem)]
    kept = [problem.excess_drop(problem.drop(metric(problem, plan))) <= 0.0 for plan in path]
    needed = len(path).bit_length()
    assert path[kept.index(True)] in asked[:needed]
    assert set(asked) == set(path)


def everything_of(name, problem):
    strategy, plans = STRATEGIES.create(name), []
    while True:
        draw = Sampler(seed=0, known=len(plans), attempt=0)
        proposal = strategy.propose(problem, evaluated(problem, plans), draw)
        if proposal is None:
            return plans
        plans.append(proposal.plan)


SHAPES = ("1x1", "4x1", "1x9", "2x2", "8x4")


@pytest.mark.parametrize(
    ("name", "block"),
    [("smallest", "1x1"), ("largest", "8x4"), ("squarest", "1x1"), ("tallest", "4x1"),
     ("widest", "1x9"), ("unstructured", "1x1")],
)  # fmt: skip
def test_a_picker_takes_the_block_of_its_rule_in_every_layer(name, block):
    blocks = tuple(map(BlockShape.parse, SHAPES))
    options = {"first": row(2.0, blocks), "second": row(blocks=blocks)}
    plans = everything_of(name, SearchProblem(options, 0.0, 0.9, max_drop=0.1))
    assert len(plans) > 3
    assert {str(c.block) for plan in plans for _, c in plan.items() if c.block} == {block}


def test_random_blocks_stay_those_of_the_first_trial():
    problem, strategy = make(), STRATEGIES.create("random-block")
    drawn, trials = [], []
    for seed in range(6):
        proposal = strategy.propose(problem, trials, Sampler(seed=seed, known=0, attempt=0))
        drawn.append({k: v for k, v in proposal.parameters.items() if k != "sparsity"})
        latency_s = problem.latency_s(proposal.plan)
        trials = [Trial(0, proposal.plan, latency_s, 0.5, 0.0, "", proposal.parameters)]
    assert all(blocks == drawn[0] for blocks in drawn)
    firsts = [
        strategy.propose(problem, [], Sampler(seed=seed, known=0, attempt=0)).parameters
        for seed in range(6)
    ]
    assert len({tuple(p.values()) for p in firsts}) > 1


def test_without_single_weights_there_is_no_unstructured_search():
    with pytest.raises(
        UnsupportedError, match="no layer has options with blocks of 1x1"
    ) as refused:
        everything_of("unstructured", make())
    assert refused.value.hint == (
        "time them too: pruneaug profile --task TASK --platform NAME --block 1x1"
    )


def test_nsga2_breeds_from_the_generation_before():
    """All parents have 4x1 everywhere: crossover keeps it, a mutation is one in four."""
    problem = make()
    space = direct_space(problem)
    points = [
        dict.fromkeys(space, "4x1") | {"sparsity": 0.9 * (index + 0.5) / 20} for index in range(20)
    ]
    trials = [
        Trial(index, plan := decode(problem, point), problem.latency_s(plan), 0.85, 0.0, "", point)
        for index, point in enumerate(points)
    ]

    def share(known):
        children = [
            Sampler(seed=seed, known=0, attempt=0).nsga2(space, problem, trials[:known])
            for seed in range(20)
        ]
        words = [word for child in children for key, word in child.items() if key != "sparsity"]
        return sum(word == "4x1" for word in words) / len(words)

    assert share(19) < 0.6  # the first generation is random: one word in three, or in two
    assert share(20) > 0.7


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_the_question_constrains_what_is_drawn(kind):
    """4x1 is always the faster; where it loses too much, 8x1 is drawn."""
    problem = make(max_drop=0.1)
    space = direct_space(problem)

    def share_of_fast(metric_of_fast):
        trials = []
        for index in range(20):
            name, latency, metric = (
                ("4x1", 1e-3, metric_of_fast) if index % 2 else ("8x1", 2e-3, 0.85)
            )
            names = {key: name if name in space[key].words else DENSE_WORD for key in blocks}
            point = {**names, "sparsity": 0.2 + index / 40}
            trials.append(Trial(index, decode(problem, point), latency, metric, 0.0, "", point))
        drawn = [
            getattr(Sampler(seed=seed, known=0, attempt=0), kind)(space, problem, trials)
            for seed in range(20)
        ]
        return sum(point[key] == "4x1" for point in drawn for key in both) / (20 * len(both))

    blocks = [key for key in space if key != "sparsity"]
    both = [key for key in blocks if "8x1" in space[key].words]
    assert share_of_fast(0.85) > 0.6
    assert share_of_fast(0.5) < 0.4
