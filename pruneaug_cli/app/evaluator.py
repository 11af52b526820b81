"""The metric of a plan, measured on the stitched model: here, or made anew in a worker."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import nn

from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.core import Partial
from pruneaug_cli.errors import TaskError
from pruneaug_cli.evaluation import (
    EarlyStop,
    LayerDatabase,
    StitchedEvaluator,
    open_database,
    tallies,
)
from pruneaug_cli.evaluation.batches import Args
from pruneaug_cli.tasks import Task

_CORRECTION_SAMPLES = 256


def stitched(
    prepared: PreparedModel, database: LayerDatabase, stop: EarlyStop | None = None
) -> StitchedEvaluator:
    """Evaluates plans of a model, with the weights that a database has for them.

    Args:
        prepared: the dense model.
        database: weights of every option.
        stop: when to end an evaluation; None: never.
    """
    return StitchedEvaluator(
        prepared.model,
        database,
        evaluate=_metric(prepared.task, stop),
        batches=correction_batches(prepared.task),
        source=f"{prepared.task.address}: calibration_batches()",
    )


def correction_batches(task: Task) -> list[Args]:
    """Calibration inputs for the correction of batch norm: the first, some 256 samples.

    It compares the same inputs before and after, so few say as much as many: of ResNet-20 at 40%
    sparsity, 128, 256 and 1024 images left a divergence of 0.0469, 0.0466 and 0.0463 on others.
    """
    batches: list[Args] = []
    samples = 0
    for batch in task.calibration_batches():
        batches.append(batch)
        samples += next((len(x) for x in batch if isinstance(x, torch.Tensor) and x.dim()), 1)
        if samples >= _CORRECTION_SAMPLES:
            break
    return batches


def _metric(task: Task, stop: EarlyStop | None) -> Callable[[nn.Module], float | Partial]:
    if stop is None:
        return lambda model: task.quick_evaluate(model, "cpu")
    return lambda model: stop(task.evaluate_batches(model, "cpu"))


def early_stop(
    recipe: Recipe, prepared: PreparedModel, dense_metric: float, max_drop: float | None
) -> EarlyStop | None:
    """When evaluations of a search end; None where they do not.

    Args:
        recipe: may turn it off.
        prepared: a task without ``evaluate_batches`` has no batches.
        dense_metric: what ``quick_evaluate`` says of the dense model.
        max_drop: the largest drop that is of interest; None: any is.

    Raises:
        TaskError: ``evaluate_batches`` gives another metric than ``quick_evaluate``.
    """
    task = prepared.task
    if not recipe.search.early_stop or max_drop is None or not task.has("evaluate_batches"):
        return None
    dense = tallies(task.evaluate_batches(prepared.model, "cpu"))
    if not math.isclose(dense[-1].mean, dense_metric, rel_tol=1e-6, abs_tol=1e-6):
        whole = "quick_evaluate" if task.has("quick_evaluate") else "evaluate"
        raise TaskError(
            f"{task.address}: the mean over evaluate_batches() is {dense[-1].mean:g}, "
            f"but {whole}() returned {dense_metric:g}",
            hint="both must be over the same samples; or set search.early_stop: false",
        )
    return EarlyStop(dense, max_drop, task.higher_is_better)


@dataclass(frozen=True, slots=True)
class MakeEvaluator:
    """Makes an evaluator from files; what travels to a worker.

    Attributes:
        recipe: names task and checkpoint.
        database: folder of the layer database.
        stop: when to end an evaluation.
        trust: whether the checkpoint may be a pickled module.
        folder: where relative paths begin.
        threads: torch's share of the cores in each worker.
    """

    recipe: Recipe
    database: Path
    stop: EarlyStop | None
    trust: bool
    folder: Path
    threads: int

    @classmethod
    def of(cls, recipe: Recipe, database: Path, stop: EarlyStop | None, *, trust: bool) -> Self:
        """For workers that divide this process's threads among them."""
        threads = max(torch.get_num_threads() // recipe.search.workers, 1)
        return cls(recipe, database.resolve(), stop, trust, Path.cwd(), threads)

    def __call__(self) -> StitchedEvaluator:
        """Load task, checkpoint and database.

        Raises:
            PruneaugError: one of them cannot be used; as in the process that began the search.
        """
        os.chdir(self.folder)
        torch.set_num_threads(self.threads)
        prepared = prepare_recipe(self.recipe, trust=self.trust)
        return stitched(prepared, open_database(self.database), self.stop)
