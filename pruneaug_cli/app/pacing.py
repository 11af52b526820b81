"""The speed of the machine at which a profile was measured, for timings that are to compare."""

import math
from dataclasses import replace
from pathlib import Path

from pruneaug_cli.platforms import Profile
from pruneaug_cli.profiling import SessionTimer, host_facts, why_not_extend
from pruneaug_cli.runtime import Pace


def why_not_comparable(profile: Profile, threads: int) -> str | None:
    """Why times taken here with so many threads do not compare with the profile's, if so."""
    platform = replace(profile.platform, threads=threads)
    return why_not_extend(profile, host=host_facts(), kernels=profile.kernels, platform=platform)


def pace_of(profile: Profile, library: Path, threads: int) -> Pace:
    """The speed at which the layers were profiled, if here and so; else the best seen now."""
    known = why_not_comparable(profile, threads) is None
    best_s = float(profile.settings.get("yardstick_s", math.inf)) if known else math.inf
    return SessionTimer(library, threads, yardstick_s=best_s).pace
