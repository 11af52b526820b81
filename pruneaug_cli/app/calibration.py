"""What a whole network costs besides its layers, and what its dense peer takes: measured once.

A plan's predicted latency is the sum of its layers, scaled a little for the caches they share, plus
a rest: entering and leaving regions, pooling, whatever runs outside. Both are measured, not
modelled: the network is exported with a few random plans and timed whole, and a line is fitted
(``NetworkMeasurement``). The dense ONNX file is timed beside it: it is what speed-ups refer to.
"""

import copy
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.core import (
    DENSE,
    BlockGrid,
    BlockMask,
    Geometry,
    LayerChoice,
    Plan,
    keep_best,
)
from pruneaug_cli.export import export_dense, export_sparse
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.layers import matrix_arrays, set_matrix
from pruneaug_cli.platforms import (
    LatencyTable,
    NetworkMeasurement,
    NetworkSample,
    Profile,
)
from pruneaug_cli.profiling import SessionTimer
from pruneaug_cli.progress import Progress, Step

SPARSITIES = (0.7, 0.8, 0.9, 0.95)
"""Uniform plans measured: the range in which searched plans lie, as profiles measure it."""

_REPEATS = 41  # samples per plan
# Long enough for the network's weights to come back into the caches that the dense one took.
_SAMPLE_S = 5e-3


def calibrate(prepared: PreparedModel, profile: Profile, progress: Progress) -> NetworkMeasurement:
    """Measure the rest of a network on this machine.

    The machine may run slower now than when the layers were profiled: times are given for the
    speed that the profile's yardstick showed then (``runtime/pace.py``).

    Args:
        prepared: the network; its weights do not matter, and stay as they are.
        profile: prices of its layers; says back end and threads.
        progress: told after each plan.
    """
    table = LatencyTable(profile)
    library = BACKENDS.create(profile.platform.backend).operator_library()
    plans = [_uniform_plan(prepared, table, sparsity) for sparsity in SPARSITIES]
    with tempfile.TemporaryDirectory(prefix="pruneaug-") as folder:
        bench = _Bench(prepared, Path(folder), library, _timer(profile, library))
        timed = []
        for index, plan in enumerate(plans):
            timed.append(bench.time(plan, seed=index))
            progress(Step("calibrate network", index + 1, len(plans)))
    samples = [
        NetworkSample(sparse_s, layers_s(prepared, table, plan))
        for plan, (sparse_s, _) in zip(plans, timed, strict=True)
    ]
    dense_s = float(np.median([dense_s for _, dense_s in timed]))
    return NetworkMeasurement.fit(prepared.network_digest(), samples, dense_latency_s=dense_s)


def layers_s(prepared: PreparedModel, table: LatencyTable, plan: Plan) -> float:
    """Sum of the predicted latencies of a plan's layers, seconds."""
    return sum(
        layer.uses * table.latency_s(layer.geometry, plan[layer.name]).latency_s
        for layer in prepared.layers
    )


def apply_random_masks(
    prepared: PreparedModel, plan: Plan, *, seed: int
) -> tuple[PreparedModel, dict[str, BlockMask]]:
    """A copy of the model with random blocks removed as the plan says, and the masks."""
    model = copy.deepcopy(prepared.model)
    random = np.random.default_rng(seed)
    arrays = matrix_arrays(model, prepared.names)
    masks = {}
    for layer in prepared.layers:
        choice = plan[layer.name]
        if choice.block is not None:
            grid = BlockGrid(layer.geometry.matrix, choice.block)
            masks[layer.name] = BlockMask(
                grid, keep_best(random.random(grid.shape), choice.sparsity)
            )
            set_matrix(model, layer.name, masks[layer.name].apply(arrays[layer.name]))
    return PreparedModel(prepared.task, model, prepared.trace, prepared.checkpoint), masks


@dataclass(frozen=True, slots=True)
class _Bench:
    """Exports a network under a plan and times it beside its dense self."""

    prepared: PreparedModel
    folder: Path
    library: Path
    timer: SessionTimer

    def time(self, plan: Plan, *, seed: int) -> tuple[float, float]:
        """Seconds of the network under the plan, and dense."""
        args, kwargs = self.prepared.task.call_inputs
        dense, sparse = self.folder / "dense.onnx", self.folder / "sparse.onnx"
        if not dense.exists():
            export_dense(self.prepared.model, args, kwargs, dense)
        pruned, masks = apply_random_masks(self.prepared, plan, seed=seed)
        export_sparse(
            pruned.model, args, kwargs, sparse,
            masks=masks, layers=self.prepared.names, library=self.library,
            metadata={}, dense_regions=True,
        )  # fmt: skip
        calls = [self.timer.call(sparse, self.library), self.timer.call(dense, None)]
        ours, peer = self.timer.side_by_side(calls, repeats=_REPEATS, sample_s=_SAMPLE_S)
        return ours.median_s, peer.median_s


def _timer(profile: Profile, library: Path) -> SessionTimer:
    best_s = float(profile.settings.get("yardstick_s", math.inf))
    return SessionTimer(library, profile.platform.threads, yardstick_s=best_s)


def _uniform_plan(prepared: PreparedModel, table: LatencyTable, sparsity: float) -> Plan:
    """Every layer at one sparsity, in the block that is fastest there; dense where none serves."""
    return Plan(
        tuple((layer.name, _fastest(table, layer.geometry, sparsity)) for layer in prepared.layers)
    )


def _fastest(table: LatencyTable, geometry: Geometry, sparsity: float) -> LayerChoice:
    served: Sequence[LayerChoice] = [
        LayerChoice(block, sparsity)
        for block in table.blocks(geometry)
        if table.sparsity_range(geometry, block)[0]
        <= sparsity
        <= table.sparsity_range(geometry, block)[1]
    ]
    return min(served, key=lambda c: table.latency_s(geometry, c).latency_s, default=DENSE)
