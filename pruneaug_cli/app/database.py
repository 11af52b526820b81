"""Evidence and layer database of a run: gathered once, gone on with when interrupted."""

from collections.abc import Sequence
from itertools import islice

from pruneaug_cli.app.candidates import Candidates
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.recipe import Recipe, SearchSettings
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.criteria import LayerEvidence, PruningMethod, ReconstructionSettings
from pruneaug_cli.evaluation import (
    LayerDatabase,
    build_database,
    collect_evidence,
    collect_gradients,
    stored_evidence,
    with_gradients,
)
from pruneaug_cli.files import digest_text
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
    names = list(wanted)
    key = digest_text(
        prepared.checkpoint,
        prepared.task.address,
        str(settings.evidence_batches),
        str(settings.criterion == "taylor"),
        *names,
    )
    return build_database(
        matrix_arrays(prepared.model, names),
        stored_evidence(run.evidence, key, lambda: _collect(prepared, names, settings, progress)),
        wanted,
        run.database,
        method=PruningMethod(settings.criterion, ReconstructionSettings(ridge=settings.ridge)),
        workers=settings.workers,
        progress=progress,
    )


def _collect(
    prepared: PreparedModel, names: Sequence[str], settings: SearchSettings, progress: Progress
) -> dict[str, LayerEvidence]:
    batches = islice(prepared.task.calibration_batches(), settings.evidence_batches)
    evidence = collect_evidence(prepared.model, names, batches, progress=progress)
    if settings.criterion != "taylor":
        return evidence
    batches = islice(prepared.task.train_batches(0), _GRADIENT_BATCHES)
    gradients = collect_gradients(
        prepared.model, names, batches, prepared.task.loss, progress=progress
    )
    return with_gradients(evidence, gradients)
