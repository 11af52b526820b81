"""A short training of the best few plans of a search, which decides between them."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from pruneaug_cli.app.answer import Basis
from pruneaug_cli.app.finetune import own_optimizer
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.core import BlockMask, Plan
from pruneaug_cli.errors import DivergedError, MetricError
from pruneaug_cli.evaluation import stitch
from pruneaug_cli.files import digest_text, dump_json
from pruneaug_cli.progress import Progress, Step
from pruneaug_cli.search import (
    Remarks,
    SearchProblem,
    SearchResult,
    Trial,
    choose_finalist,
    open_remarks,
)
from pruneaug_cli.training import FinetuneSettings, finetune


def choose(
    run: RunDirectory,
    recipe: Recipe,
    basis: Basis,
    problem: SearchProblem,
    found: SearchResult,
    *,
    storage: str,
    in_time: Callable[[], bool],
    progress: Progress,
) -> SearchResult:
    """Let a short training decide which of the best plans is the answer.

    What a finalist reached is kept beside its trial in the study, where training stands in a file:
    after a kill it goes on. Nothing happens in a search without fine-tuning, of a task without
    training data, or with ``search.finalist_epochs: 0``.

    Args:
        run: its folder takes the state of a training.
        recipe: settings, and the drop to keep.
        basis: model, task and weights.
        problem: the question.
        found: the search's answer.
        storage: database of the study.
        in_time: whether another training may begin; what is known already counts all the same.
        progress: told of every training.
    """
    settings = finalist_settings(recipe)
    if settings is None or not basis.prepared.is_trained_by(recipe):
        return found
    with open_remarks(storage, found.study_name) as remarks:
        train = _Trainer(run, recipe, settings, basis, remarks, in_time, progress)
        return choose_finalist(problem, found, train, max_drop=recipe.goal.max_drop)


def finalist_settings(recipe: Recipe) -> FinetuneSettings | None:
    """How finalists are trained: as the recipe says, but masked retraining only, and short."""
    epochs = min(recipe.search.finalist_epochs, recipe.finetune.epochs)
    if epochs == 0:
        return None
    whole = FinetuneSettings(**recipe.finetune.model_dump(), seed=recipe.seed)
    return replace(whole, epochs=epochs, penalty_epochs=0, evaluate_every=epochs, budget_s=None)


class _Trainer:
    """Trains the plan of a trial once; what was found is read from the remarks after that."""

    def __init__(
        self,
        run: RunDirectory,
        recipe: Recipe,
        settings: FinetuneSettings,
        basis: Basis,
        remarks: Remarks,
        in_time: Callable[[], bool],
        progress: Progress,
    ) -> None:
        self._run, self._recipe, self._settings, self._basis = run, recipe, settings, basis
        self._remarks, self._in_time, self._progress = remarks, in_time, progress
        decided_by = digest_text(dump_json(settings.to_json()), basis.prepared.task.source_digest)
        self._topic = f"finalist-{decided_by[:12]}"

    def __call__(self, trial: Trial) -> float | None:
        """The metric after the training; None where it is not known and no time is left.

        NaN when training diverged, or has led to weights without a metric.
        """
        metric = self._remarks.find(trial.number, self._topic)
        if metric is None and self._in_time():
            try:
                metric = self._train(trial)
            except (DivergedError, MetricError):
                metric = math.nan
            self._remarks.write(trial.number, self._topic, metric)
            self._state_path(trial).unlink(missing_ok=True)
        return metric

    def _state_path(self, trial: Trial) -> Path:
        return self._run.path / f"{self._topic}-{trial.number}.pt"

    def _train(self, trial: Trial) -> float:
        prepared = self._basis.prepared
        student, masks = self._pruned(trial.plan)
        result = finetune(
            student,
            masks,
            train_batches=prepared.task.train_batches,
            loss=prepared.task.loss,
            settings=self._settings,
            teacher=prepared.model if self._settings.distillation > 0 else None,
            evaluate=lambda model: prepared.task.quick_evaluate(model, "cpu"),
            higher_is_better=prepared.task.higher_is_better,
            make_optimizer=own_optimizer(prepared, self._recipe),
            state_path=self._state_path(trial),
            progress=lambda step: self._tell(trial, step),
        )
        return trial.metric if result.best_metric is None else result.best_metric

    def _pruned(self, plan: Plan) -> tuple[nn.Module, dict[str, BlockMask]]:
        basis = self._basis
        pruned = {name: choice for name, choice in plan.items() if not choice.is_dense}
        masks = {name: basis.database.entry(name, choice).mask for name, choice in pruned.items()}
        with stitch(
            basis.prepared.model, basis.database, plan, correction=basis.evaluator.correction
        ) as model:
            return copy.deepcopy(model), masks

    def _tell(self, trial: Trial, step: Step) -> None:
        self._progress(replace(step, stage=f"training finalist {trial.number}"))
