"""Which measure of harm ranks plans as the metric does, one JSON object per line.

    python benchmarks/harm.py --task my_task.py --checkpoint weights.safetensors \\
        --platform this-machine --plans 80 --jsonl harm.jsonl

Random plans in bands of equal predicted latency, one-shot (batch norm re-estimated, nothing
trained): Spearman's rank correlation between their measured drop and the sum of their layers'
harms, by each measure, over all plans and as the mean over bands: within a band latency does not
give the rank away. Then single options: one layer pruned, the others dense.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from options import refusing, task_parser, write_rows
from scipy.stats import spearmanr

from pruneaug_cli.app.database import make_database
from pruneaug_cli.app.evaluator import stitched
from pruneaug_cli.app.prepared import prepare_recipe
from pruneaug_cli.app.pricing import price
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.core import DENSE, LayerChoice, Option, Plan
from pruneaug_cli.criteria import HarmMeasure
from pruneaug_cli.errors import UsageError
from pruneaug_cli.evaluation import LayerDatabase
from pruneaug_cli.progress import silent

BANDS = 4
MEASURES: tuple[HarmMeasure, ...] = ("output", "loss")
SINGLE_SPARSITIES = 3

Row = dict[str, object]
Options = Mapping[str, tuple[Option, ...]]


def main() -> None:
    """Compare the measures on one model."""
    with refusing("harm.py"):
        options = _parser().parse_args()
        if options.plans < BANDS * 3:
            raise UsageError(f"--plans: expected at least {BANDS * 3}, got {options.plans}")
        if options.threads < 1:
            raise UsageError(f"--threads: expected at least 1, got {options.threads}")
        torch.set_num_threads(options.threads)
        with TemporaryDirectory(prefix="pruneaug-") as temporary:
            folder = options.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            write_rows(_rows(options, folder), options.jsonl)


def _rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    overrides = {
        "task": options.task, "platform": options.platform,
        "checkpoint": None if options.checkpoint is None else str(options.checkpoint),
    }  # fmt: skip
    settings = ["search.harm=loss", *options.set]
    recipe = read_recipe(None, settings=settings, overrides=overrides)
    prepared, run = prepare_recipe(recipe), RunDirectory(folder)
    pricing = price(prepared, recipe, run, silent)
    database = make_database(run, recipe, prepared, pricing.candidates, silent)
    evaluate = stitched(prepared, database)
    dense = prepared.task.quick_evaluate(prepared.model, "cpu")
    sign = 1.0 if prepared.task.higher_is_better else -1.0

    def drop(plan: Plan) -> float:
        return sign * (dense - evaluate(plan).metric)

    priced = pricing.options(database.harm)
    rng = np.random.default_rng(options.seed)
    yield {"model": prepared.task.address, "dense_metric": dense, "layers": len(priced)}
    plans = random_plans(priced, options.plans, rng, pricing.network.rest_s)
    yield from _measured("plans", plans, database, drop)
    yield from _measured("single", [(0, plan) for plan in single_plans(priced)], database, drop)


def random_plans(
    options: Options, count: int, rng: np.random.Generator, rest_s: float
) -> list[tuple[int, Plan]]:
    """Random plans with their band: equal parts of the latencies that can be reached.

    Every layer draws an option at random, with odds that favour slow or fast ones; the first plans
    that fall into a band stay.
    """
    fastest = rest_s + sum(min(o.latency_s for o in found) for found in options.values())
    dense = rest_s + sum(found[0].latency_s for found in options.values())
    found: dict[int, list[Plan]] = {band: [] for band in range(BANDS)}
    each = -(-count // BANDS)
    for _ in range(400 * count):
        if all(len(plans) == each for plans in found.values()):
            break
        tilt = rng.uniform(-6.0, 6.0)
        drawn = {layer: _draw(choices, tilt, rng) for layer, choices in options.items()}
        latency = rest_s + sum(option.latency_s for option in drawn.values())
        band = int(BANDS * (latency - fastest) / (dense - fastest))
        if 0 <= band < BANDS and len(found[band]) < each:
            plan = Plan.of({layer: option.choice for layer, option in drawn.items()})
            found[band].append(plan)
    return [(band, plan) for band, plans in found.items() for plan in plans]


def _draw(options: Sequence[Option], tilt: float, rng: np.random.Generator) -> Option:
    times = np.array([option.latency_s for option in options])
    span = float(times.max() - times.min()) or 1.0
    odds = np.exp(-tilt * (times - times.min()) / span)
    return options[int(rng.choice(len(options), p=odds / odds.sum()))]


def single_plans(options: Options) -> list[Plan]:
    """Plans that prune one layer: its first block at its lowest, middle and highest sparsity."""
    plans = []
    for layer, choices in options.items():
        pruned = [option.choice for option in choices if not option.choice.is_dense]
        first = [choice for choice in pruned if choice.block == pruned[0].block]
        chosen = np.unique(np.linspace(0, len(first) - 1, SINGLE_SPARSITIES).round())
        plans += [
            Plan.of(dict.fromkeys(options, DENSE) | {layer: first[int(index)]})
            for index in (chosen if first else ())
        ]
    return plans


def _measured(
    kind: str,
    plans: Sequence[tuple[int, Plan]],
    database: LayerDatabase,
    drop: Callable[[Plan], float],
) -> Iterator[Row]:
    rows: list[dict[str, Any]] = []
    for band, plan in plans:
        row = {
            "kind": kind, "band": band, "drop": drop(plan),
            **{measure: total_harm(database, plan, measure) for measure in MEASURES},
        }  # fmt: skip
        rows.append(row)
        yield row
    yield {"kind": f"{kind}: rank correlation", "plans": len(rows)} | {
        measure: correlations(rows, measure) for measure in MEASURES
    }


def total_harm(database: LayerDatabase, plan: Plan, measure: HarmMeasure) -> float:
    """Sum of the harms of a plan's options."""
    pruned: list[tuple[str, LayerChoice]] = [
        (layer, choice) for layer, choice in plan.items() if not choice.is_dense
    ]
    return math.fsum(database.harm(layer, choice, measure) for layer, choice in pruned)


def correlations(rows: Sequence[Mapping[str, Any]], measure: str) -> Row:
    """Spearman's correlation of harm and drop: over all rows, and the mean over bands."""
    bands = [[row for row in rows if row["band"] == band] for band in range(BANDS)]
    within = [_spearman(band, measure) for band in bands if len(band) > 2]
    return {"all": _spearman(rows, measure), "within": math.fsum(within) / len(within)}


def _spearman(rows: Sequence[Mapping[str, Any]], measure: str) -> float:
    return float(spearmanr([row[measure] for row in rows], [row["drop"] for row in rows]).statistic)


def _parser() -> argparse.ArgumentParser:
    parser = task_parser("harm.py", __doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=80, help="random ones (default: 80)")
    parser.add_argument("--seed", type=int, default=0, help="of the plans (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="of evaluations (default: 1)")
    return parser


if __name__ == "__main__":
    main()
