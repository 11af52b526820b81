"""Ways to look for a plan, each behind one contract; the index of what there is."""

from pruneaug_cli.registry import Registry
from pruneaug_cli.search.strategies.contract import Strategy
from pruneaug_cli.search.strategies.direct import RandomStrategy, TpeStrategy
from pruneaug_cli.search.strategies.knapsack import KnapsackStrategy
from pruneaug_cli.search.strategies.uniform import UniformStrategy

STRATEGIES: Registry[Strategy] = Registry(
    "search strategy",
    {
        "knapsack": KnapsackStrategy,
        "tpe": TpeStrategy,
        "random": RandomStrategy,
        "uniform": UniformStrategy,
    },
)

__all__ = ["STRATEGIES", "Strategy"]
