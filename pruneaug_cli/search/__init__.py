"""Chooses a plan from tables of options and a callable ``Plan → metric``; knows no model."""

from pruneaug_cli.search.engine import ENGINES, Engine, Here
from pruneaug_cli.search.family import run_family, run_search
from pruneaug_cli.search.finalists import choose_finalist
from pruneaug_cli.search.identity import Setting, require_same_study
from pruneaug_cli.search.judged import TELLING, expected_drops, judged_drops
from pruneaug_cli.search.knapsack import KnapsackTable, solve_knapsack
from pruneaug_cli.search.problem import (
    ROUNDING,
    Preflight,
    SearchProblem,
    largest_drop,
    milliseconds,
    no_less,
    preflight,
    require_reachable,
)
from pruneaug_cli.search.remarks import Remarks, open_remarks
from pruneaug_cli.search.storage import require_storage, shown
from pruneaug_cli.search.strategies import STRATEGIES
from pruneaug_cli.search.strategies.knapsack import Learnt, learnt_coefficients
from pruneaug_cli.search.trial import Evaluate, Finalist, SearchResult, Trial, expected_drop

__all__ = [
    "ENGINES",
    "ROUNDING",
    "STRATEGIES",
    "TELLING",
    "Engine",
    "Evaluate",
    "Finalist",
    "Here",
    "KnapsackTable",
    "Learnt",
    "Preflight",
    "Remarks",
    "SearchProblem",
    "SearchResult",
    "Setting",
    "Trial",
    "choose_finalist",
    "expected_drop",
    "expected_drops",
    "judged_drops",
    "largest_drop",
    "learnt_coefficients",
    "milliseconds",
    "no_less",
    "open_remarks",
    "preflight",
    "require_reachable",
    "require_same_study",
    "require_storage",
    "run_family",
    "run_search",
    "shown",
    "solve_knapsack",
]
