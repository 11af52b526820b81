"""``pruneaug finetune``: recovery training of a run's plan."""

import copy
import time
from collections.abc import Mapping
from typing import Any

from torch import nn

from pruneaug_cli.app.family import on_each
from pruneaug_cli.app.plan_weights import load_pruned, save_pruned
from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.recipe import Recipe, dump_recipe
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.requests import FinetuneRequest
from pruneaug_cli.app.results import Document, RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.core import BlockMask
from pruneaug_cli.files import digest_text, dump_json, write_text
from pruneaug_cli.progress import Progress, silent
from pruneaug_cli.training import FinetuneSettings, finetune
from pruneaug_cli.training.run import MakeOptimizer

STALE = ("sparse.test_metric", "sparse.latency_s", "sparse.size_bytes", "sparse.spread", "speedup",
         "export", "bench")  # fmt: skip
"""What a new checkpoint makes untrue."""


def run_finetune(request: FinetuneRequest, progress: Progress = silent) -> RunResult:
    """Train the plan of a run, or those of a family; an interrupted training goes on."""

    def train(run: RunDirectory, progress: Progress) -> Document:
        run.require(run.recipe)
        recipe = read_recipe(run.recipe, settings=request.settings, section="finetune")
        prepared = prepare_recipe(recipe, trust=request.trust_checkpoint)
        document = finetune_run(run, recipe, prepared, progress)
        write_text(run.recipe, dump_recipe(recipe))
        return document

    return on_each(request.run_dir, train, progress)


def finetune_run(
    run: RunDirectory, recipe: Recipe, prepared: PreparedModel, progress: Progress
) -> Document:
    """Train what the search left in ``pruned.safetensors`` into ``checkpoint.safetensors``."""
    started = time.monotonic()
    run.require(run.pruned)
    pruned = copy.deepcopy(prepared.model)
    masks = load_pruned(run.pruned, pruned, prepared.layers)
    settings, task = _settings(recipe), prepared.task
    before = task.evaluate(pruned, "cpu")
    # the penalty phase starts from the dense weights, masked retraining from the pruned ones
    student = copy.deepcopy(prepared.model) if settings.penalty_epochs else pruned
    result = finetune(
        student,
        masks,
        train_batches=task.train_batches,
        loss=task.loss,
        settings=settings,
        teacher=prepared.model if settings.distillation > 0 else None,
        evaluate=lambda model: task.evaluate(model, "cpu"),
        higher_is_better=task.higher_is_better,
        make_optimizer=own_optimizer(prepared, recipe),
        state_path=run.training_state,
        progress=progress,
    )
    save_pruned(run.checkpoint, student, result.masks)
    news = _news(task.evaluate(student, "cpu"), before, settings)
    run.training_state.unlink(missing_ok=True)
    return run.update_result(news, step="finetune", seconds=time.monotonic() - started, drop=STALE)


def is_trained(run: RunDirectory, recipe: Recipe) -> bool:
    """Whether the run's plan was trained to the end, with these settings."""
    done, now = run.read_result().get("finetune", {}), _digest(_settings(recipe))
    return run.checkpoint.exists() and done.get("settings", now) == now


def own_optimizer(prepared: PreparedModel, recipe: Recipe) -> MakeOptimizer | None:
    """The task's optimizer, if it brings one."""
    task = prepared.task
    if not task.has("optimizer"):
        return None
    return lambda parameters: task.optimizer(parameters, recipe.model_dump())


def _settings(recipe: Recipe) -> FinetuneSettings:
    return FinetuneSettings(**recipe.finetune.model_dump(), seed=recipe.seed)


def _digest(settings: FinetuneSettings) -> str:
    return digest_text(dump_json(settings.to_json()))


def _news(after: float, before: float, settings: FinetuneSettings) -> dict[str, Any]:
    return {
        "sparse": {"metric": after},
        "finetune": {
            "epochs": settings.penalty_epochs + settings.epochs,
            "metric_before": before,
            "metric_after": after,
            "settings": _digest(settings),
        },
        "files": {"checkpoint": "checkpoint.safetensors"},
    }


def masks_and_model(
    run: RunDirectory, prepared: PreparedModel
) -> tuple[nn.Module, Mapping[str, BlockMask]]:
    """The newest weights of a run in a copy of its model, with their masks."""
    model = copy.deepcopy(prepared.model)
    return model, load_pruned(run.weights(), model, prepared.layers)
