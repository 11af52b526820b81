"""What search strategies find with equally many evaluations, one JSON object per line.

    python benchmarks/search.py --task my_task.py --checkpoint weights.safetensors \
        --platform this-machine --strategies knapsack,tpe,nsga2,random,uniform --evaluations 200 \
        --seeds 0,1,2 --max-drop 0.01 --jsonl search.jsonl

One-shot: weights from the layer database, batch norm corrected, nothing trained. All strategies
share the database and every evaluation (``contest.py``). The fastest plan of each at 0.5, 1 and
2 times the drop is exported and timed, in turns with the dense file. Row ``all-uniform`` is
of every uniform plan. ``--folder`` keeps database, evaluations and prices for the next time.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from contest import (
    COUNTED_DROPS,
    Attempt,
    Evaluated,
    Evaluations,
    all_uniform,
    attempt,
    best_of,
    evaluations_to_reach,
    hypervolume,
)
from options import check_common, read_list, refusing, task_parser, write_rows
from torch import nn

from pruneaug_cli.app.database import make_database
from pruneaug_cli.app.evaluator import early_stop, stitched
from pruneaug_cli.app.pacing import pace_of
from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.pricing import Pricing, price
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.core import Plan
from pruneaug_cli.errors import UnsupportedError, UsageError
from pruneaug_cli.evaluation import LayerDatabase, StitchedEvaluator, stitch
from pruneaug_cli.export import export_dense, export_sparse
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.progress import silent
from pruneaug_cli.registry import nearest
from pruneaug_cli.runtime import bench_models
from pruneaug_cli.search import STRATEGIES, SearchProblem

PARTS = (0.5, 1.0, 2.0)
"""Of the largest drop: at each the fastest plan found is measured."""

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Timed:
    """An exported plan beside the dense file; its drop on data of the task that no search saw."""

    latency_s: float
    dense_latency_s: float
    speedup: float
    test_drop: float | None


class Exporter:
    """Exports plans and times them, each once, at the speed the profile was taken at.

    Args:
        prepared: the dense model.
        database: weights of every option.
        evaluator: knows the batches for batch norm.
        pricing: says back end, threads and the machine's speed.
        folder: for the files.
        seconds: of timing per plan.
    """

    def __init__(
        self,
        prepared: PreparedModel,
        database: LayerDatabase,
        evaluator: StitchedEvaluator,
        pricing: Pricing,
        folder: Path,
        seconds: float,
    ) -> None:
        self._prepared, self._database, self._evaluator = prepared, database, evaluator
        self._dense, self._sparse = folder / "dense.onnx", folder / "sparse.onnx"
        self._library = BACKENDS.create(pricing.profile.platform.backend).operator_library()
        self._threads, self._seconds = pricing.profile.platform.threads, seconds
        self._pace = pace_of(pricing.profile, self._library, self._threads)
        task, self._test_metric = prepared.task, None
        if task.has("test"):
            self._test_metric = task.test(prepared.model, "cpu")
        args, kwargs = task.call_inputs
        export_dense(prepared.model, args, kwargs, self._dense)
        self._known: dict[Plan, Timed] = {}

    def __call__(self, plan: Plan) -> Timed:
        """Measured latencies of a plan."""
        if plan not in self._known:
            self._known[plan] = self._time(plan)
        return self._known[plan]

    def _time(self, plan: Plan) -> Timed:
        args, kwargs = self._prepared.task.call_inputs
        pruned = {name: choice for name, choice in plan.items() if not choice.is_dense}
        masks = {name: self._database.entry(name, choice).mask for name, choice in pruned.items()}
        with stitch(
            self._prepared.model, self._database, plan, correction=self._evaluator.correction
        ) as model:
            export_sparse(
                model, args, kwargs, self._sparse, masks=masks, layers=self._prepared.names,
                library=self._library, metadata={},
            )  # fmt: skip
            test_drop = self._test_drop(model)
        timed = bench_models(
            self._sparse, self._dense, threads=self._threads, library=self._library,
            seconds=self._seconds, pace=self._pace, batch=self._prepared.task.batch,
        )  # fmt: skip
        sparse, dense = timed.models
        return Timed(sparse.latency_s, dense.latency_s, timed.speedup, test_drop)

    def _test_drop(self, model: nn.Module) -> float | None:
        if self._test_metric is None:
            return None
        task = self._prepared.task
        drop = self._test_metric - task.test(model, "cpu")
        return drop if task.higher_is_better else -drop


def main() -> None:
    """Let every strategy search with every seed."""
    with refusing("search.py"):
        options = _parser().parse_args()
        check_common(options)
        _check(options)
        strategies = read_strategies(options.strategies)
        seeds = read_list(options.seeds, "--seeds", _read_seed)
        torch.set_num_threads(options.threads)
        with tempfile.TemporaryDirectory(prefix="pruneaug-") as temporary:
            folder = options.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            write_rows(_rows(options, strategies, seeds, folder), options.jsonl)


def read_strategies(text: str) -> list[str]:
    """Read ``knapsack,tpe`` or ``all``.

    Raises:
        UsageError: there is no such strategy.
    """
    names = list(STRATEGIES) if text == "all" else text.split(",")
    for name in names:
        if name not in STRATEGIES:
            raise UsageError(f"--strategies: no strategy {name!r}", hint=nearest(name, STRATEGIES))
    return names


def _rows(
    options: argparse.Namespace, strategies: list[str], seeds: list[int], folder: Path
) -> Iterator[Row]:
    problem, evaluator, exporter = _open(options, folder)
    evaluations = Evaluations(problem, evaluator, folder / "evaluations.jsonl")
    uniform = all_uniform(problem, evaluations)
    yardstick = best_of(problem, uniform, options.max_drop)
    yield _row("all-uniform", None, problem, uniform, exporter)
    for seed in seeds:
        for strategy in strategies:
            try:
                found = attempt(
                    problem, evaluations, strategy, seed=seed, trials=options.evaluations
                )
            except UnsupportedError as error:
                yield {"strategy": strategy, "seed": seed, "note": str(error)}
                continue
            reached = evaluations_to_reach(problem, found.trials, yardstick)
            yield _row(strategy, seed, problem, found.trials, exporter) | _effort(found, reached)


def _effort(found: Attempt, reached: int | None) -> Row:
    return {
        "evaluations_to_best_uniform": reached,
        "seconds": found.seconds,
        "search_s": found.own_s,
    }


def _row(
    strategy: str,
    seed: int | None,
    problem: SearchProblem,
    trials: Sequence[Evaluated],
    exporter: Exporter,
) -> Row:
    drops = {part: part * (problem.max_drop or 0.0) for part in PARTS}
    best = {part: best_of(problem, trials, drop) for part, drop in drops.items()}
    return {
        "strategy": strategy, "seed": seed, "evaluations": len(trials),
        "dense_metric": problem.dense_metric,
        **_found(problem, best[1.0], exporter),
        "at": [
            {"max_drop": drops[part], **_found(problem, found, exporter)}
            for part, found in best.items()
        ],
        "hypervolume": hypervolume(problem, trials),
    }  # fmt: skip


def _found(problem: SearchProblem, best: Evaluated | None, exporter: Exporter) -> Row:
    """Columns of a plan; nulls where no plan keeps the drop."""
    names = ("drop", "metric", "predicted_latency_s", *Timed.__dataclass_fields__)
    if best is None:
        return dict.fromkeys(names)
    measured = asdict(exporter(best.plan))
    drop = problem.drop(best.metric)
    values = (drop, best.metric, best.predicted_latency_s, *measured.values())
    return dict(zip(names, values, strict=True))


def _open(
    options: argparse.Namespace, folder: Path
) -> tuple[SearchProblem, StitchedEvaluator, Exporter]:
    """Prices, the layer database and the question."""
    overrides = {
        "task": options.task, "platform": options.platform, "goal.max_drop": options.max_drop,
        "checkpoint": None if options.checkpoint is None else str(options.checkpoint),
    }  # fmt: skip
    recipe = read_recipe(None, settings=options.set, overrides=overrides)
    prepared, run = prepare_recipe(recipe), RunDirectory(folder)
    pricing = price(prepared, recipe, run, silent)
    database = make_database(run, recipe, prepared, pricing.candidates, silent)
    dense_metric = prepared.task.quick_evaluate(prepared.model, "cpu")
    stop = early_stop(recipe, prepared, dense_metric, COUNTED_DROPS * options.max_drop)
    evaluator = stitched(prepared, database, stop)
    problem = SearchProblem(
        pricing.options(database.harm), pricing.network.rest_s, dense_metric,
        prepared.task.higher_is_better, max_drop=options.max_drop,
        cautious=recipe.search.cautious,
    )  # fmt: skip
    exporter = Exporter(prepared, database, evaluator, pricing, folder, options.seconds)
    return problem, evaluator, exporter


def _check(options: argparse.Namespace) -> None:
    if options.evaluations < 1:
        raise UsageError(f"--evaluations: expected at least 1, got {options.evaluations}")
    if not 0.0 < options.max_drop < math.inf:
        raise UsageError(f"--max-drop: expected more than 0, got {options.max_drop:g}")


def _read_seed(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"expected a number from 0, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = task_parser("search.py", __doc__.splitlines()[0])
    parser.add_argument("--strategies", default="all", help=f"all, or of: {', '.join(STRATEGIES)}")
    parser.add_argument("--evaluations", type=int, default=200, help="per strategy and seed")
    parser.add_argument("--seeds", default="0,1,2", help="one or more (default: 0,1,2)")
    parser.add_argument("--max-drop", type=float, default=0.01, help="absolute (default: 0.01)")
    parser.add_argument("--threads", type=int, default=1, help="of evaluations (default: 1)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing, per plan")
    return parser


if __name__ == "__main__":
    main()
