"""Evidence and layer database of a run: gathered once, gone on with when interrupted."""

from collections.abc import Sequence
from itertools import islice

import numpy as np

from pruneaug_cli.app.candidates import Candidates
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.recipe import Recipe, SearchSettings
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.criteria import HarmMeasure, PruningMethod, ReconstructionSettings
from pruneaug_cli.errors import TaskError
from pruneaug_cli.evaluation import (
    EvidenceFile,
    LayerDatabase,
    StoredEvidence,
    build_database,
    collect_evidence,
    collect_gradients,
    groups_of_layers,
)
from pruneaug_cli.files import digest_text, remove_leftovers
from pruneaug_cli.layers import matrix_arrays
from pruneaug_cli.progress import Progress

_GRADIENT_BATCHES = 16


def make_database(
    run: RunDirectory,
    recipe: Recipe,
    prepared: PreparedModel,
    candidates: Candidates,
    progress: Progress,
) -> LayerDatabase:
    """Pruned weights and harm of every candidate of every layer.

    Raises:
        TaskError: the task lacks a function that the evidence needs.
    """
    settings = recipe.search
    pruned = {
        name: [choice for choice in choices if not choice.is_dense]
        for name, choices in candidates.choices.items()
    }
    wanted = {name: choices for name, choices in pruned.items() if choices}
    return build_database(
        matrix_arrays(prepared.model, list(wanted)),
        gather_evidence(run, settings, prepared, list(wanted), progress),
        wanted,
        run.database,
        method=PruningMethod(settings.criterion, ReconstructionSettings(ridge=settings.ridge)),
        harm=harm_measure(settings, prepared),
        workers=settings.workers,
        progress=progress,
    )


def harm_measure(settings: SearchSettings, prepared: PreparedModel) -> HarmMeasure:
    """What the recipe says, or else the better measure that the task allows."""
    return settings.harm or ("loss" if prepared.task.has("train_batches") else "output")


def require_gradients(settings: SearchSettings, prepared: PreparedModel) -> None:
    """Refuse settings that need gradients of a task that has no batches to take them from.

    Raises:
        TaskError: it lacks ``train_batches``.
    """
    asking = _why_gradients(settings, prepared)
    if asking is not None and not prepared.task.has("train_batches"):
        raise TaskError(
            f"{prepared.task.address}: {asking} needs gradients of the loss, and the task has no "
            "function train_batches",
            hint="write train_batches(epoch) in the task, or leave the setting out",
        )


def gather_evidence(
    run: RunDirectory,
    settings: SearchSettings,
    prepared: PreparedModel,
    names: Sequence[str],
    progress: Progress,
) -> dict[str, StoredEvidence]:
    """Evidence of layers, in the run's files: collected where it is missing.

    Second moments: one group of layers at a time is in memory, and every group is one pass over
    the batches. Gradients of all layers that lack them come from one pass. What was gathered with
    another checkpoint, or before the task or a module beside it was changed, is not used.

    Raises:
        TaskError: the task lacks a function that the evidence needs.
    """
    require_gradients(settings, prepared)
    remove_leftovers(run.evidence)
    needs_gradients = _why_gradients(settings, prepared) is not None
    task = prepared.task
    base = digest_text(prepared.checkpoint, task.address, task.source_digest)
    key = digest_text(base, str(settings.evidence_batches))
    found = {
        name: StoredEvidence(
            EvidenceFile(run.evidence, name, "inputs", key),
            EvidenceFile(run.evidence, name, "gradients", base) if needs_gradients else None,
            scores=settings.criterion == "taylor",
            curvature=harm_measure(settings, prepared) == "loss",
        )
        for name in names
    }
    inputs = {name: stored.inputs for name, stored in found.items()}
    _collect_inputs(settings, prepared, inputs, progress)
    gradients = {name: one.gradients for name, one in found.items() if one.gradients is not None}
    _collect_gradients(prepared, gradients, progress)
    return found


def _why_gradients(settings: SearchSettings, prepared: PreparedModel) -> str | None:
    if harm_measure(settings, prepared) == "loss":
        return "search.harm: loss"
    return "search.criterion: taylor" if settings.criterion == "taylor" else None


def _collect_inputs(
    settings: SearchSettings,
    prepared: PreparedModel,
    files: dict[str, EvidenceFile],
    progress: Progress,
) -> None:
    missing = [name for name, file in files.items() if not file.exists()]
    for group in groups_of_layers(prepared.model, missing):
        batches = islice(prepared.task.calibration_batches(), settings.evidence_batches)
        evidence = collect_evidence(prepared.model, group, batches, progress=progress)
        for name in group:
            known = evidence.pop(name)
            samples = np.array([known.samples], dtype=np.int64)
            files[name].write({"second_moment": known.second_moment, "samples": samples})


def _collect_gradients(
    prepared: PreparedModel, files: dict[str, EvidenceFile], progress: Progress
) -> None:
    missing = [name for name, file in files.items() if not file.exists()]
    if not missing:
        return
    batches = islice(prepared.task.train_batches(0), _GRADIENT_BATCHES)
    found = collect_gradients(
        prepared.model, missing, batches, prepared.task.loss, progress=progress
    )
    for name in missing:
        known = found.pop(name)
        files[name].write({"gradient": known.weight, "curvature": known.curvature})
