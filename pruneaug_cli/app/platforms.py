"""``pruneaug platforms``: look at profiles."""

from pathlib import Path

from pruneaug_cli.app.requests import PlatformsListRequest, PlatformsShowRequest
from pruneaug_cli.app.results import BreakEven, PlatformResult, PlatformsResult, PlatformSummary
from pruneaug_cli.core import DENSE, BlockShape, Geometry, LayerChoice
from pruneaug_cli.platforms import LatencyTable, Profile, find_profile, list_profiles, read_profile
from pruneaug_cli.progress import Progress, silent


def run_platforms_list(
    request: PlatformsListRequest, progress: Progress = silent
) -> PlatformsResult:
    """List every profile that can be named."""
    del request, progress
    return PlatformsResult(
        tuple(summarise(read_profile(path), path) for path in list_profiles().values())
    )


def run_platforms_show(
    request: PlatformsShowRequest, progress: Progress = silent
) -> PlatformResult:
    """Show where blocks start to pay in one profile."""
    del progress
    path = find_profile(request.platform)
    profile = read_profile(path)
    return PlatformResult(summarise(profile, path), break_evens(profile))


def summarise(profile: Profile, path: Path) -> PlatformSummary:
    """One profile in a line."""
    return PlatformSummary(
        name=profile.name,
        path=path,
        backend=profile.platform.backend,
        threads=profile.platform.threads,
        cpu=profile.host.get("cpu", "unknown"),
        date=profile.date,
        measurements=len(profile.measurements),
        repeat_error=profile.repeat_error,
    )


def break_evens(profile: Profile) -> tuple[BreakEven, ...]:
    """Every geometry and block of a profile."""
    table = LatencyTable(profile)
    return tuple(
        _break_even(table, geometry, block)
        for geometry in table.geometries
        for block in table.blocks(geometry)
    )


def _break_even(table: LatencyTable, geometry: Geometry, block: BlockShape) -> BreakEven:
    dense = table.latency_s(geometry, DENSE).latency_s
    peer = table.peer_latency_s(geometry)
    _, highest = table.sparsity_range(geometry, block)
    fastest = table.latency_s(geometry, LayerChoice(block, highest)).latency_s
    return BreakEven(
        geometry=str(geometry),
        block=str(block),
        dense_latency_s=dense,
        peer_latency_s=peer,
        break_even=table.break_even(geometry, block),
        best_sparsity=highest,
        best_speedup=min(dense, peer or dense) / fastest,
    )
