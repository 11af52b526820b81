"""A task, its model with the checkpoint's weights, and the layers found in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from torch import nn

from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.errors import RecipeError, UnsupportedError, UsageError
from pruneaug_cli.files import digest_text
from pruneaug_cli.layers import ModelTrace, PrunableLayer, trace_model
from pruneaug_cli.registry import nearest
from pruneaug_cli.tasks import Task, builtin_checkpoint, load_checkpoint, load_task


@dataclass(frozen=True, slots=True, eq=False)
class PreparedModel:
    """What every step starts from.

    Attributes:
        task: the user's functions.
        model: in evaluation mode, with the weights of the checkpoint.
        trace: prunable and skipped layers.
        checkpoint: digest of the weights' file; empty when none was loaded.
    """

    task: Task
    model: nn.Module
    trace: ModelTrace
    checkpoint: str

    @property
    def layers(self) -> tuple[PrunableLayer, ...]:
        """Prunable layers, in the order they run."""
        return self.trace.layers

    @property
    def names(self) -> list[str]:
        """Names of the prunable layers."""
        return [layer.name for layer in self.layers]

    def is_trained_by(self, recipe: Recipe) -> bool:
        """Whether a search is followed by fine-tuning: asked for, and the task has the data."""
        return recipe.finetune.epochs > 0 and self.task.has("train_batches")

    def network_digest(self) -> str:
        """Digest of the architecture, whatever the weights: structure and layer geometries."""
        lines = [f"{layer.name} {layer.geometry} x{layer.uses}" for layer in self.layers]
        return digest_text(str(self.model), *lines)


def prepare(task_address: str, checkpoint: Path | None, *, trust: bool = False) -> PreparedModel:
    """Load a task, build its model, fill in the weights, find the layers.

    Args:
        task_address: as in :func:`pruneaug_cli.tasks.load_task`.
        checkpoint: file of weights; None leaves the weights as built (enough for profiling).
        trust: load pickled modules too.

    Raises:
        UnsupportedError: the model has no layer that can be pruned.
    """
    task = load_task(task_address)
    model = task.build_model()
    digest = "" if checkpoint is None else load_checkpoint(checkpoint, model, trust=trust)
    model.eval()
    args, kwargs = task.call_inputs
    include, exclude = task.layer_globs()
    trace = trace_model(model, args, kwargs, include=include, exclude=exclude)
    if not trace.layers:
        raise UnsupportedError(
            f"{task.address}: the model has no layer that can be pruned",
            hint="; ".join(f"{s.name}: {s.reason}" for s in trace.skipped[:3]) or None,
        )
    return PreparedModel(task, model, trace, digest)


def prepare_recipe(recipe: Recipe, *, trust: bool = False) -> PreparedModel:
    """Prepare what a recipe names; a built-in task brings its own checkpoint.

    Raises:
        UsageError: the task is not built in, and no checkpoint is given.
        RecipeError: a layer rule is for a name that no layer has.
    """
    address = recipe.require("task")
    prepared = prepare(address, _checkpoint(recipe, address), trust=trust)
    _require_layers(recipe, prepared.trace)
    return prepared


def _checkpoint(recipe: Recipe, address: str) -> Path:
    if recipe.checkpoint is not None:
        return Path(recipe.checkpoint)
    if not address.startswith("builtin:"):
        raise UsageError(
            "no checkpoint is given",
            hint="name the trained weights: pruneaug search CHECKPOINT --task …, or "
            "'checkpoint: …' in the recipe",
        )
    return builtin_checkpoint(load_task(address))


def _require_layers(recipe: Recipe, trace: ModelTrace) -> None:
    names = [layer.name for layer in trace.layers] + [layer.name for layer in trace.skipped]
    for glob in recipe.layers.names:
        if not any(fnmatchcase(name, glob) for name in names):
            raise RecipeError(
                f"layers.names: {glob!r} matches no layer of {recipe.task}",
                hint=nearest(glob, names),
            )


def distinct_geometries(layers: Sequence[PrunableLayer]) -> list[str]:
    """Geometries in the order they first appear, as text."""
    return list(dict.fromkeys(str(layer.geometry) for layer in layers))
