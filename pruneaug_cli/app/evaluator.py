"""The metric of a plan, measured on the stitched model: here, or made anew in a worker."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.evaluation import LayerDatabase, StitchedEvaluator, open_database


def stitched(prepared: PreparedModel, database: LayerDatabase) -> StitchedEvaluator:
    """Evaluates plans of a model, with the weights that a database has for them."""
    return StitchedEvaluator(
        prepared.model,
        database,
        evaluate=lambda model: prepared.task.quick_evaluate(model, "cpu"),
        batches=list(prepared.task.calibration_batches()),
    )


@dataclass(frozen=True, slots=True)
class MakeEvaluator:
    """Makes an evaluator from files; what travels to a worker.

    Attributes:
        recipe: names task and checkpoint.
        database: folder of the layer database.
        trust: whether the checkpoint may be a pickled module.
        folder: where relative paths begin.
        threads: torch's share of the cores in each worker.
    """

    recipe: Recipe
    database: Path
    trust: bool
    folder: Path
    threads: int

    @classmethod
    def of(cls, recipe: Recipe, database: Path, *, trust: bool) -> Self:
        """For workers that divide this process's threads among them."""
        threads = max(torch.get_num_threads() // recipe.search.workers, 1)
        return cls(recipe, database.resolve(), trust, Path.cwd(), threads)

    def __call__(self) -> StitchedEvaluator:
        """Load task, checkpoint and database.

        Raises:
            PruneaugError: one of them cannot be used; as in the process that began the search.
        """
        os.chdir(self.folder)
        torch.set_num_threads(self.threads)
        return stitched(prepare_recipe(self.recipe, trust=self.trust), open_database(self.database))
