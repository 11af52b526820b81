"""How long each layer takes in its place inside a network, told by the engine itself.

A network's file runs in an ONNX Runtime session while the engine records what every step of its
regions takes (``Library.watch``). A layer's share is the time of its steps over that of the runs,
both summed over the faster half of the runs: sums, so that shares and the rest make one whole; the
faster half, so that what a disturbed run adds to one step is not taken for the layer's.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pruneaug_cli.export import read_model
from pruneaug_cli.export.read import RegionRecord
from pruneaug_cli.kernels.native.library import Library, StepTimes
from pruneaug_cli.kernels.program import Conv, Linear
from pruneaug_cli.runtime import Clock

RUNS = 40
_WARM_UP = 3


def layer_shares(
    model: Path, call: Callable[[], object], library: Path, *, clock: Clock, runs: int = RUNS
) -> dict[str, float]:
    """What part of a run of the model each of its layers in regions takes, by name.

    Args:
        model: an exported file.
        call: runs it once, in a session with our operators.
        library: the operators, as the session was given them.
        clock: seconds.
        runs: how often it is run.
    """
    taken = []
    with Library(library).watch() as watch:
        for _ in range(_WARM_UP):
            call()
        watch.clear()
        for _ in range(runs):
            start = clock()
            call()
            taken.append(clock() - start)
        faster = np.argsort(taken)[: max(runs // 2, 1)]
        seconds = _layer_seconds(read_model(model).regions, watch.times(), faster)
    whole_s = float(np.mean(np.array(taken)[faster]))
    return {name: layer_s / whole_s for name, layer_s in seconds.items()}


def _layer_seconds(
    regions: Sequence[RegionRecord], times: Sequence[StepTimes], chosen: npt.NDArray[np.intp]
) -> Mapping[str, float]:
    """Mean over the chosen runs of a layer's products; splits serve several layers."""
    seconds: dict[str, float] = {}
    for region, seen in zip(regions, times, strict=True):
        for (kind, number), step_s in zip(
            seen.steps, seen.seconds[chosen].mean(axis=0), strict=True
        ):
            op = region.program.instructions[number] if kind == "compute" else None
            if isinstance(op, Conv | Linear):
                name = region.layers[op.weight]
                seconds[name] = seconds.get(name, 0.0) + float(step_s)
    return seconds
