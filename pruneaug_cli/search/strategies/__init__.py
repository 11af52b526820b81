"""Ways to look for a plan, each behind one contract; the index of what there is."""

from functools import partial

from pruneaug_cli.registry import Registry
from pruneaug_cli.search.strategies.contract import Strategy
from pruneaug_cli.search.strategies.direct import Nsga2Strategy, RandomStrategy, TpeStrategy
from pruneaug_cli.search.strategies.greedy import GreedyStrategy
from pruneaug_cli.search.strategies.halp import HalpStrategy
from pruneaug_cli.search.strategies.knapsack import KnapsackStrategy
from pruneaug_cli.search.strategies.pickers import (
    RULES,
    PickerStrategy,
    RandomBlockStrategy,
    UnstructuredStrategy,
)
from pruneaug_cli.search.strategies.uniform import UniformStrategy

STRATEGIES: Registry[Strategy] = Registry(
    "search strategy",
    {
        "knapsack": KnapsackStrategy,
        "tpe": TpeStrategy,
        "nsga2": Nsga2Strategy,
        "random": RandomStrategy,
        "greedy": GreedyStrategy,
        "halp": HalpStrategy,
        "uniform": UniformStrategy,
        **{rule: partial(PickerStrategy, rule) for rule in RULES},
        "random-block": RandomBlockStrategy,
        "unstructured": UnstructuredStrategy,
    },
)

__all__ = ["STRATEGIES", "Strategy"]
