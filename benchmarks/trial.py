"""What a trial of the search costs, beside one pass for batch norm and one for the metric.

    python benchmarks/trial.py --task my_task.py --checkpoint weights.safetensors \
        --platform this-machine --trials 100 --max-drop 0.01 --threads 2 --set search.workers=2

The first row times the passes on the dense model as the task gives it; the second searches in a
folder of its own. ``ratio`` is a trial's time over the time of the passes: with everything around
it in one process, within the evaluations (``seconds`` of the trials) when there are several.
``early``: trials that ended early; ``share_seen``: of all samples that there were to evaluate;
``cpu_s``: of this process, with one worker the whole search. ``--folder`` keeps evidence and
database for the next time, but not the study.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from options import check_common, refusing, task_parser, write_rows

from pruneaug_cli.app.evaluator import correction_batches
from pruneaug_cli.app.outcome import drop_of
from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.app.search import search_run
from pruneaug_cli.errors import UsageError
from pruneaug_cli.evaluation import BatchNormCorrection
from pruneaug_cli.progress import Step

Row = dict[str, object]
_REPEATS = 3


class Stopwatch:
    """When the first and the last trial were complete, told by the search's progress."""

    def __init__(self) -> None:
        self.began_s = time.perf_counter()
        self._seen: dict[int, float] = {}

    def __call__(self, step: Step) -> None:
        """Note the moment of a new number of trials."""
        if step.stage == "search":
            self._seen.setdefault(step.done, time.perf_counter())

    @property
    def trial_s(self) -> float:
        """Mean time from trial to trial."""
        first, last = min(self._seen), max(self._seen)
        return (self._seen[last] - self._seen[first]) / (last - first)

    @property
    def prepared_s(self) -> float:
        """From the beginning to the search."""
        first = min(self._seen)
        return max(self._seen[first] - self.began_s - first * self.trial_s, 0.0)


def main() -> None:
    """Time the passes, then a search."""
    with refusing("trial.py"):
        options = _parser().parse_args()
        check_common(options)
        if options.trials < 2:
            raise UsageError(f"--trials: expected at least 2, got {options.trials}")
        torch.set_num_threads(options.threads)
        with tempfile.TemporaryDirectory(prefix="pruneaug-") as temporary:
            write_rows(_rows(options, options.folder or Path(temporary)), options.jsonl)


def _rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    overrides = {
        "task": options.task, "platform": options.platform, "goal.max_drop": options.max_drop,
        "checkpoint": None if options.checkpoint is None else str(options.checkpoint),
        "search.trials": options.trials, "finetune.epochs": 0,
    }  # fmt: skip
    recipe = read_recipe(None, settings=options.set, overrides=overrides)
    prepared = prepare_recipe(recipe)
    passes = _passes(prepared, options.threads // recipe.search.workers)
    yield passes
    run = RunDirectory(folder)
    run.study.unlink(missing_ok=True)
    yield _search(run, recipe, prepared, options.threads, float(str(passes["seconds"])))


def _passes(prepared: PreparedModel, threads: int) -> Row:
    """Median times of correcting batch norm and of the metric, with a worker's threads."""
    model, task = prepared.model, prepared.task
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_num_threads()
    torch.set_num_threads(max(threads, 1))
    task.quick_evaluate(model, "cpu")  # data are loaded with the first
    correction = BatchNormCorrection(model, correction_batches(task))
    norm_s = _median_s(lambda: correction.apply(model))
    metric_s = _median_s(lambda: task.quick_evaluate(model, "cpu"))
    torch.set_num_threads(before)
    model.load_state_dict(state)
    return {
        "row": "passes", "batch_norm_s": norm_s, "evaluation_s": metric_s,
        "seconds": norm_s + metric_s,
    }  # fmt: skip


def _median_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _search(
    run: RunDirectory, recipe: Recipe, prepared: PreparedModel, threads: int, passes_s: float
) -> Row:
    watch = Stopwatch()
    began_cpu_s = time.process_time()
    document = search_run(run, recipe, prepared, None, watch)
    seconds, cpu_s = time.perf_counter() - watch.began_s, time.process_time() - began_cpu_s
    trials = document["search"]["trials"]
    evaluated_s = statistics.mean(trial["seconds"] for trial in trials)
    workers = recipe.search.workers
    shares = [trial["samples"] / trial["of"] for trial in trials if trial["samples"]]
    cost_s = watch.trial_s if workers == 1 else evaluated_s
    return {
        "row": "search", "trials": len(trials), "threads": threads, "workers": workers,
        "seed": recipe.seed, "seconds": seconds, "cpu_s": cpu_s, "prepared_s": watch.prepared_s,
        "trial_s": watch.trial_s, "evaluation_s": evaluated_s, "ratio": cost_s / passes_s,
        "early": len(shares), "share_seen": 1.0 - sum(1.0 - s for s in shares) / len(trials),
        "metric": document["sparse"]["metric"], "drop": drop_of(document),
        "predicted_latency_s": document["predicted_latency_s"],
    }  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = task_parser("trial.py", __doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100, help="plans to evaluate")
    parser.add_argument("--max-drop", type=float, default=0.01, help="absolute (default: 0.01)")
    parser.add_argument("--threads", type=int, default=2, help="of all workers (default: 2)")
    parser.set_defaults(seconds=1.0)
    return parser


if __name__ == "__main__":
    main()
