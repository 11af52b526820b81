"""From a plan to a file that meets its target as measured: train, export, bench, ask again.

A plan is chosen by its predicted latency. When what it becomes is slower than the target, the study
is asked again for a plan that makes up for the error (``app/margin.py``), at most twice. The speed
is measured before training too: it hangs on the plan alone, and training is what takes long.
"""

import math
from dataclasses import dataclass

from pruneaug_cli.app.export import export_run
from pruneaug_cli.app.finetune import finetune_run, is_trained
from pruneaug_cli.app.margin import may_tighten, tighter, write_step
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.pricing import Pricing, price
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.results import Document
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.app.search import search_run
from pruneaug_cli.app.timing import bench_run, probe_speed
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.progress import Progress

_MORE = 0.1  # of the trials, for each time that the study is asked again


@dataclass(frozen=True, slots=True, eq=False)
class Finish:
    """The steps after the search, for one run; call it.

    Attributes:
        run: the run, or a member of a family.
        recipe: with the run's own goal.
        prepared: task and model.
        storage: of the study, as in :func:`search_run`.
        trust: as in :func:`search_run`.
        progress: told of every step.
    """

    run: RunDirectory
    recipe: Recipe
    prepared: PreparedModel
    storage: str | None
    trust: bool
    progress: Progress

    def __call__(self) -> Document:
        """Train, export and bench, until the target is met or cannot be tightened any more."""
        while True:
            if self._train():
                continue
            export_run(self.run, self.recipe, self.prepared, self.progress)
            document = bench_run(self.run, self.recipe, self.progress)
            if not self._ask_again(document):
                return self.run.read_result()

    def _train(self) -> bool:
        """Train what is not trained yet; True when the plan turned out too slow and has changed."""
        if not self.prepared.is_trained_by(self.recipe) or is_trained(self.run, self.recipe):
            return False
        fresh = not self.run.training_state.exists()
        if fresh and may_tighten(self.run, self.recipe, self._pricing()):
            measured = probe_speed(self.run, self.recipe, self.prepared, self.progress)
            if self._ask_again(measured):
                return True
        finetune_run(self.run, self.recipe, self.prepared, self.progress)
        return False

    def _ask_again(self, measured: Document) -> bool:
        """Whether the measurement misses the target and the study had a faster plan."""
        pricing = self._pricing()
        step = tighter(self.run, self.recipe, pricing, measured)
        if step is None:
            return False
        more = max(2, math.ceil(_MORE * self.recipe.search.trials))
        try:
            search_run(
                self.run, self.recipe, self.prepared, self.storage, self.progress,
                trust=self.trust, more=more, planned_s=step["planned_latency_s"],
            )  # fmt: skip
        except BudgetError as error:
            step["reason"] = str(error)
        # not before: who was killed meanwhile begins this step again
        write_step(self.run, self.recipe, pricing, step)
        return step["reason"] is None

    def _pricing(self) -> Pricing:
        return price(self.prepared, self.recipe, self.run, self.progress)
