"""``pruneaug profile``: time the kernels for a model's layers, and the rest of the model, here."""

import time
from pathlib import Path

from pruneaug_cli.app.calibration import calibrate
from pruneaug_cli.app.platforms import break_evens, summarise
from pruneaug_cli.app.prepared import PreparedModel, prepare
from pruneaug_cli.app.requests import ProfileRequest
from pruneaug_cli.app.results import PlatformResult
from pruneaug_cli.core import BlockShape, Geometry, parse_geometry
from pruneaug_cli.errors import InputError, UsageError
from pruneaug_cli.files import read_text
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.platforms import Platform, Profile, read_profile, write_profile
from pruneaug_cli.profiling import (
    DEFAULT_BLOCKS,
    DEFAULT_SPARSITIES,
    host_facts,
    profile_platform,
    why_not_extend,
)
from pruneaug_cli.progress import Progress, silent


def run_profile(request: ProfileRequest, progress: Progress = silent) -> PlatformResult:
    """Measure a platform, or complete an earlier profile of the same machine and kernels."""
    started = time.monotonic()
    prepared = None if request.task is None else prepare(request.task, None)
    path = request.out or Path("platforms") / f"{request.platform}.json"
    profile = measure(request, _geometries(request, prepared), path, progress)
    write_profile(profile, path)
    if prepared is not None:
        profile = profile.with_network(calibrate(prepared, profile, progress))
        write_profile(profile, path)
    return PlatformResult(
        summarise(profile, path), break_evens(profile), time.monotonic() - started
    )


def measure(
    request: ProfileRequest, geometries: list[Geometry], path: Path, progress: Progress
) -> Profile:
    """Time layers as a request says; rows of an earlier profile at ``path`` stay if they fit."""
    backend = BACKENDS.create(request.backend)
    blocks = DEFAULT_BLOCKS if request.blocks is None else _blocks(request.blocks)
    return profile_platform(
        geometries,
        backend=backend,
        name=request.platform,
        threads=request.threads,
        blocks=blocks,
        sparsities=request.sparsities or DEFAULT_SPARSITIES,
        budget_s=request.budget_s,
        seed=request.seed,
        existing=existing_profile(path, request),
        progress=progress,
    )


def existing_profile(path: Path, request: ProfileRequest) -> Profile | None:
    """The profile at ``path``, if it is of this machine and of these kernels; else None."""
    if not path.exists():
        return None
    profile = read_profile(path)
    backend = BACKENDS.create(request.backend)
    platform = Platform(backend=request.backend, threads=request.threads)
    reason = why_not_extend(
        profile, host=host_facts(), kernels=backend.fingerprint(), platform=platform
    )
    return profile if reason is None else None


def _blocks(texts: tuple[str, ...]) -> tuple[BlockShape, ...]:
    try:
        return tuple(BlockShape.parse(text) for text in texts)
    except ValueError as error:
        raise UsageError(f"blocks: {error}") from error


def _geometries(request: ProfileRequest, prepared: PreparedModel | None) -> list[Geometry]:
    if prepared is not None:
        return list(dict.fromkeys(layer.geometry for layer in prepared.layers))
    if request.shapes is None:
        raise UsageError("nothing to profile", hint="give --task TASK or --shapes FILE")
    return read_shapes(request.shapes)


def read_shapes(path: Path) -> list[Geometry]:
    """Read one geometry per line; blank lines and lines that begin with ``#`` are skipped.

    Raises:
        InputError: a line is not a geometry, or there is none.
    """
    shapes: list[Geometry] = []
    for number, line in enumerate(read_text(path, kind="shapes").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                shapes.append(parse_geometry(text))
            except ValueError as error:
                raise InputError(f"{path}: line {number}: {error}") from error
    if not shapes:
        raise InputError(
            f"{path}: no geometries", hint="one per line, such as: linear 768 3072 128"
        )
    return shapes
