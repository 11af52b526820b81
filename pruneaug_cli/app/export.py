"""``pruneaug export``: the ONNX files of a run, written, verified, evaluated and re-counted."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pruneaug_cli.app.bench import PREDICTED
from pruneaug_cli.app.family import on_each
from pruneaug_cli.app.finetune import masks_and_model
from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.recipe import ExportSettings, Recipe, dump_recipe
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.requests import ExportRequest
from pruneaug_cli.app.results import Document, RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.errors import UsageError
from pruneaug_cli.export import (
    ExportedFile,
    TargetLibrary,
    count_sparsity,
    export_dense,
    export_sparse,
)
from pruneaug_cli.files import digest_text
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.kernels.native.targets import NATIVE, find_target
from pruneaug_cli.platforms import Profile, read_profile
from pruneaug_cli.progress import Progress, Step, silent
from pruneaug_cli.runtime import (
    OnnxModule,
    Verification,
    open_session,
    region_memory,
    verify_export,
)

_STEPS = 5


def run_export(request: ExportRequest, progress: Progress = silent) -> RunResult:
    """Write and verify the block-sparse file of a run, or of each member of a family.

    The dense peer lies beside it.

    Raises:
        UsageError: one file is named for the models of a family.
    """
    target = None if request.target is None else find_target(request.target).name
    _refuse_one_file_for_all(request)

    def export(run: RunDirectory, progress: Progress) -> Document:
        run.require(run.recipe)
        recipe = read_recipe(run.recipe)
        if target is not None:
            recipe = recipe.model_copy(update={"export": ExportSettings(target=target)})
        prepared = prepare_recipe(recipe, trust=request.trust_checkpoint)
        return export_run(run, recipe, prepared, progress, out=request.out)

    return on_each(request.run_dir, export, progress)


def _refuse_one_file_for_all(request: ExportRequest) -> None:
    members = RunDirectory.at(request.run_dir).members()
    if members and request.out is not None:
        raise UsageError(
            f"--out {request.out}: {request.run_dir} holds {len(members)} models, not one",
            hint=f"name one: pruneaug export {members[0].path} --out FILE",
        )


def export_run(
    run: RunDirectory,
    recipe: Recipe,
    prepared: PreparedModel,
    progress: Progress,
    *,
    out: Path | None = None,
) -> dict[str, Any]:
    """Export the newest weights of a run; everything reported is read from the files."""
    started = time.monotonic()
    profile = read_profile(run.require(run.profile))
    here, shipped = _libraries(profile.platform.backend, recipe.export.target)
    path = out or run.model
    dense_path = run.dense_model if out is None else out.with_suffix(".dense.onnx")
    progress(Step("export", 0, _STEPS, "dense model"))
    args, kwargs = prepared.task.call_inputs
    dense = export_dense(prepared.model, args, kwargs, dense_path)
    progress(Step("export", 1, _STEPS, "block-sparse model"))
    metadata = _metadata(run, recipe, profile, batch=prepared.task.batch)
    sparse, verification = _export_sparse(
        run, prepared, path, progress, library=here, shipped=shipped, metadata=metadata
    )
    progress(Step("export", 3, _STEPS, "accuracy from the files"))
    metrics = {
        "dense": _metrics(prepared, dense_path, None),
        "sparse": _metrics(prepared, path, sparse.library),
    }
    progress(Step("export", 4, _STEPS, "counting blocks"))
    news = {
        "dense": {**metrics["dense"], "size_bytes": dense.size_bytes},
        "sparse": {**metrics["sparse"], "size_bytes": sparse.size_bytes},
        "export": {
            "max_abs_diff_library": verification.max_abs_diff_library,
            "max_abs_diff_stock": verification.max_abs_diff_stock,
            "tolerance": verification.tolerance,
            "sparsity": count_sparsity(path),
            "regions": sparse.regions,
            "outside": [asdict(node) for node in sparse.outside],
            "memory": asdict(region_memory(path, here)),
            "target": shipped.target,
            "library": shipped.path.name,
        },
        "files": _files(run, path, dense_path, sparse),
    }
    progress(Step("export", _STEPS, _STEPS))
    drop = ("speedup", "bench", "sparse.latency_s", "sparse.spread")
    return run.update_result(news, step="export", seconds=time.monotonic() - started, drop=drop)


def write_models(
    run: RunDirectory, recipe: Recipe, prepared: PreparedModel, path: Path, dense_path: Path
) -> Path:
    """Write the newest weights of a run, and the dense peer, only to be timed here, unverified.

    Returns the library that runs the regions.
    """
    profile = read_profile(run.require(run.profile))
    library, shipped = _libraries(profile.platform.backend, NATIVE)
    args, kwargs = prepared.task.call_inputs
    export_dense(prepared.model, args, kwargs, dense_path)
    model, masks = masks_and_model(run, prepared)
    export_sparse(
        model, args, kwargs, path,
        masks=masks, layers=prepared.names, library=library, shipped=shipped,
        metadata=_metadata(run, recipe, profile, batch=prepared.task.batch),
    )  # fmt: skip
    return library


def _libraries(name: str, target: str) -> tuple[Path, TargetLibrary]:
    """The library that runs the regions here, and the one the model is for: one file if it can."""
    backend = BACKENDS.create(name)
    if target == NATIVE:
        here = backend.operator_library()
        return here, TargetLibrary(target, here)
    shipped = backend.operator_library(target)
    here = shipped if backend.runs_here(shipped) else backend.operator_library()
    return here, TargetLibrary(target, shipped)


def _metadata(run: RunDirectory, recipe: Recipe, profile: Profile, *, batch: int) -> dict[str, str]:
    """Facts of the run, kept in the file."""
    platform = {"name": profile.name, **profile.host, **profile.kernels}
    stored = run.read_plan()
    return {
        "plan": json.dumps(stored.plan.to_json(), sort_keys=True),
        PREDICTED: repr(stored.predicted_latency_s),
        "recipe": digest_text(dump_recipe(recipe)),
        "platform": json.dumps(platform, sort_keys=True),
        "batch": str(batch),
    }


def _export_sparse(
    run: RunDirectory,
    prepared: PreparedModel,
    path: Path,
    progress: Progress,
    *,
    library: Path,
    shipped: TargetLibrary,
    metadata: Mapping[str, str],
) -> tuple[ExportedFile, Verification]:
    model, masks = masks_and_model(run, prepared)
    args, kwargs = prepared.task.call_inputs
    exported = export_sparse(
        model, args, kwargs, path,
        masks=masks,
        layers=prepared.names,
        library=library,
        shipped=shipped,
        metadata=metadata,
    )  # fmt: skip
    progress(Step("export", 2, _STEPS, "verifying"))
    model.eval()
    with torch.inference_mode():
        answer = model(*args, **kwargs)
    outputs = answer if isinstance(answer, tuple | list) else (answer,)
    inputs = [value.numpy() for value in (*args, *kwargs.values())]
    expected = [output.numpy() for output in outputs]
    return exported, verify_export(path, inputs=inputs, expected=expected, library=exported.library)


def _metrics(prepared: PreparedModel, path: Path, library: Path | None) -> dict[str, float]:
    """Validation and, where the task has one, test metric of a file, run in ONNX Runtime."""
    module = OnnxModule(open_session(path, threads=torch.get_num_threads(), library=library))
    found = {"metric": prepared.task.evaluate(module, "cpu")}
    if prepared.task.has("test"):
        found["test_metric"] = prepared.task.test(module, "cpu")
    return found


def _files(run: RunDirectory, path: Path, dense_path: Path, sparse: ExportedFile) -> dict[str, str]:
    made = {"sparse": path, "dense": dense_path}
    if sparse.library is not None:
        made["library"] = sparse.library
    if sparse.target_library is not None:
        made["target_library"] = sparse.target_library
    return {
        name: str(file.relative_to(run.path) if file.is_relative_to(run.path) else file.resolve())
        for name, file in made.items()
    }
