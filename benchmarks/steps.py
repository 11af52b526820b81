"""Where the time of an exported model goes: every step of its regions, inside whole runs.

    python benchmarks/steps.py runs/a/model.onnx [--threads 2] [--runs 200] [--jsonl OUT]

The model runs in an ONNX Runtime session with our library, warm. Per step: the median over runs
in microseconds, the share of the run, GFLOP/s of kept blocks. What no step accounts for (the
session, standard operators, the clock itself: about 30 ns per step) is the last row.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pruneaug_cli.export.read import read_model
from pruneaug_cli.kernels.native import NativeBackend
from pruneaug_cli.kernels.native.library import StepTimes
from pruneaug_cli.kernels.program import RegionProgram
from pruneaug_cli.kernels.steps import step_macs, step_name
from pruneaug_cli.runtime import example_arrays, open_session


def watch_model(model: Path, threads: int, runs: int) -> tuple[list[StepTimes], float]:
    """Step times per region, and the median seconds of a run, of ``runs`` warm runs."""
    library = NativeBackend().library
    session = open_session(model, threads=threads, library=library.path)
    call = session.bound_call(example_arrays(session.inputs, seed=0))
    taken = []
    with library.watch(room=1 << 24) as watch:
        for run in range(runs + 5):
            if run == 5:
                watch.clear()
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        return watch.times(), float(np.median(taken[5:]))


def rows(
    programs: list[RegionProgram], samples: int, times: list[StepTimes], whole_s: float
) -> Iterator[dict[str, object]]:
    """One row per step, then the rest."""
    rest_s = whole_s
    for index, (program, region) in enumerate(zip(programs, times, strict=True)):
        medians = np.median(region.seconds, axis=0)
        for (kind, number), seconds in zip(region.steps, medians, strict=True):
            macs = samples * step_macs(program, kind, number)
            rest_s -= seconds
            yield {
                "region": index, "step": step_name(program, kind, number), "kind": kind,
                "seconds": float(seconds), "share": float(seconds / whole_s),
                "gflops": 2e-9 * macs / seconds if macs else None,
            }  # fmt: skip
    rest = {"seconds": rest_s, "share": rest_s / whole_s, "gflops": None}
    yield {"region": None, "step": f"the rest of {whole_s * 1e6:.1f} us", "kind": "rest", **rest}


def main() -> None:
    """Watch one model and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--samples", type=int, default=1, help="samples of a run, for GFLOP/s")
    parser.add_argument("--jsonl", type=Path)
    options = parser.parse_args()
    times, whole_s = watch_model(options.model, options.threads, options.runs)
    programs = [record.program for record in read_model(options.model).regions]
    table = list(rows(programs, options.samples, times, whole_s))
    for row in table:
        rate = "" if row["gflops"] is None else f"{row['gflops']:7.1f}"
        print(f"{row['seconds'] * 1e6:9.1f} us {row['share']:6.1%} {rate:>7}  {row['step']}")
    if options.jsonl:
        options.jsonl.write_text("".join(f"{json.dumps(row)}\n" for row in table), "utf-8")


if __name__ == "__main__":
    main()
