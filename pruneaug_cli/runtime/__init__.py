"""Exported models run: sessions, timing side by side, verification, evaluation of a file."""

from pruneaug_cli.runtime.bench import BenchResult, ModelTiming, bench_models, example_arrays
from pruneaug_cli.runtime.clock import (
    Clock,
    Samples,
    clock_for,
    time_alternating,
    time_batch,
)
from pruneaug_cli.runtime.memory import RegionMemory, region_memory
from pruneaug_cli.runtime.module import OnnxModule
from pruneaug_cli.runtime.pace import SHARED, Pace, time_in_pace
from pruneaug_cli.runtime.session import Port, Session, open_session
from pruneaug_cli.runtime.verify import Verification, verify_export

__all__ = [
    "SHARED",
    "BenchResult",
    "Clock",
    "ModelTiming",
    "OnnxModule",
    "Pace",
    "Port",
    "RegionMemory",
    "Samples",
    "Session",
    "Verification",
    "bench_models",
    "clock_for",
    "example_arrays",
    "open_session",
    "region_memory",
    "time_alternating",
    "time_batch",
    "time_in_pace",
    "verify_export",
]
