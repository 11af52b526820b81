"""Measuring a platform: every layer geometry under every choice, into a profile."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pruneaug_cli.core import BlockShape, Geometry
from pruneaug_cli.errors import ProfileError, UnsupportedError, UsageError
from pruneaug_cli.kernels.backend import Backend
from pruneaug_cli.platforms import Platform, Profile
from pruneaug_cli.profiling.cells import (
    DEFAULT_BLOCKS,
    DEFAULT_SPARSITIES,
    Cells,
    plan_cells,
)
from pruneaug_cli.profiling.host import host_facts
from pruneaug_cli.profiling.sweep import CHECKED_AGAIN, NOISY, RETRIES, Sweep
from pruneaug_cli.profiling.timer import (
    REPEATS,
    SAMPLE_S,
    YARDSTICK,
    LayerTimer,
    SessionTimer,
)
from pruneaug_cli.progress import Progress, silent
from pruneaug_cli.runtime import SHARED, Clock

_SAME_MACHINE = ("cpu", "cpu_id", "isa", "caches", "governor", "onnxruntime")


def profile_platform(
    geometries: Sequence[Geometry],
    *,
    backend: Backend,
    name: str,
    threads: int = 1,
    blocks: Sequence[BlockShape] = DEFAULT_BLOCKS,
    sparsities: Sequence[float] = DEFAULT_SPARSITIES,
    budget_s: float = 60.0,
    seed: int = 0,
    existing: Profile | None = None,
    timer: LayerTimer | None = None,
    progress: Progress = silent,
    clock: Clock = time.perf_counter,
) -> Profile:
    """Measure a platform.

    Args:
        geometries: layers; repeated ones are measured once.
        backend: whose kernels.
        name: of the profile.
        threads: of the ONNX Runtime sessions.
        blocks: block shapes to try on every layer; pairs the back end does not serve are left out.
        sparsities: fractions of blocks removed, between 0 and 1; dense is always measured.
        budget_s: seconds to spend; more when the cells no profile can lack take longer.
        seed: of weights, masks and inputs.
        existing: a profile to complete: its rows are kept and not measured again.
        timer: what times a layer; None: sessions with the back end's operators.
        progress: told after each row.
        clock: what the budget is read from.

    Raises:
        UsageError: no geometries, or a sparsity out of range.
        UnsupportedError: the back end cannot run here.
        ProfileError: ``existing`` is of another machine, kernels or platform.
    """
    _check(geometries, sparsities, backend)
    before = _nothing_measured(backend, name, threads, seed)
    if existing is not None:
        _require_extensible(existing, now=before)
        before = existing
    cells = plan_cells(
        geometries,
        blocks,
        sparsities,
        serves=lambda geometry, block: backend.why_unsupported(geometry, block) is None,
    )
    if timer is None:
        best_s = float(before.settings.get("yardstick_s", math.inf))
        library = backend.operator_library()
        timer = SessionTimer(library, threads, seed=seed, yardstick_s=best_s)
    sweep = _run(timer, cells, before, progress=progress, clock=clock, budget_s=budget_s)
    return replace(
        before,
        name=name,
        settings={**before.settings, "yardstick_s": timer.yardstick_s},
        repeat_error=max(sweep.repeat_error() or 0.0, before.repeat_error),
        measurements=(*before.measurements, *sweep.rows),
        peers=(*before.peers, *sweep.peers.values()),
    )


def why_not_extend(
    existing: Profile, *, host: Mapping[str, str], kernels: Mapping[str, str], platform: Platform
) -> str | None:
    """Why rows measured here and now do not belong into ``existing``; None when they do."""
    if existing.platform != platform:
        return f"it is for {existing.platform}, not for {platform}"
    pairs = [
        *((key, existing.host.get(key), host.get(key)) for key in _SAME_MACHINE),
        *(
            (f"kernel {key}", existing.kernels.get(key), kernels.get(key))
            for key in sorted(existing.kernels.keys() | kernels.keys())
        ),
        ("yardstick", existing.settings.get("yardstick"), YARDSTICK),
    ]
    for what, then, now in pairs:
        if then != now:
            return f"its {what} was {then!r}, now it is {now!r}"
    return None


def _check(geometries: Sequence[Geometry], sparsities: Sequence[float], backend: Backend) -> None:
    if not geometries:
        raise UsageError("there is no layer to measure")
    for sparsity in sparsities:
        if not 0.0 < sparsity < 1.0:
            raise UsageError(f"a sparsity to measure lies between 0 and 1, got {sparsity:g}")
    reason = backend.why_unavailable()
    if reason is not None:
        raise UnsupportedError(f"the {backend.name} kernels cannot be timed here: {reason}")


def _nothing_measured(backend: Backend, name: str, threads: int, seed: int) -> Profile:
    """The profile of this platform and machine, still without rows."""
    return Profile(
        name=name,
        platform=Platform(backend=backend.name, threads=threads),
        host=host_facts(),
        kernels=backend.fingerprint(),
        date=datetime.now(UTC).date().isoformat(),
        settings={
            "seed": seed,
            "repeats": REPEATS,
            "sample_s": SAMPLE_S,
            "noisy": NOISY,
            "retries": RETRIES,
            "shared": SHARED,
            "yardstick": YARDSTICK,
            "checked_again": CHECKED_AGAIN,
            "clock": "processor time of the thread" if threads == 1 else "wall",
            "method": "difference of 1 and 1 + m copies of the layer in one session",
        },
        repeat_error=0.0,
        measurements=(),
    )


def _require_extensible(existing: Profile, *, now: Profile) -> None:
    reason = why_not_extend(existing, host=now.host, kernels=now.kernels, platform=now.platform)
    if reason is not None:
        raise ProfileError(
            f"profile {existing.name!r} cannot be extended: {reason}",
            hint="measure under another name, or remove the old profile first",
        )


def _run(
    timer: LayerTimer,
    cells: Cells,
    before: Profile,
    *,
    progress: Progress,
    clock: Clock,
    budget_s: float,
) -> Sweep:
    """Measure what ``before`` lacks."""
    essential, refining = (
        [cell for cell in part if before.find(cell.geometry, cell.choice) is None]
        for part in (cells.essential, cells.refining)
    )
    known = {row.geometry for row in before.peers}
    geometries = dict.fromkeys(cell.geometry for cell in cells.essential)
    peers = [geometry for geometry in geometries if geometry not in known]
    fresh = len(essential) + len(refining)
    steps = len(peers) + fresh + min(CHECKED_AGAIN, fresh)
    sweep = Sweep(timer, steps=steps, progress=progress, clock=clock, budget_s=budget_s)
    sweep.measure_all(essential)
    sweep.measure_peers(peers)
    sweep.measure_in_time(refining)
    return sweep
