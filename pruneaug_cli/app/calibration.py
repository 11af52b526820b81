"""What layers cost in their places in a network, and what it costs besides: measured once.

The network is exported with a few random plans and timed whole, and the engine tells what each
layer took in its place (``profiling/in_place.py``); ``platforms/network.py`` says what is made of
it. The dense ONNX file is timed beside it: it is what speed-ups refer to.
"""

import copy
import math
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.core import (
    DENSE,
    BlockGrid,
    BlockMask,
    BlockShape,
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
from pruneaug_cli.profiling import SessionTimer, layer_shares
from pruneaug_cli.progress import Progress, Step

SPARSITIES = (0.0, 0.5, 0.7, 0.85, 0.95)
"""Uniform plans measured: dense, and the range in which searched plans lie."""

_TYPICAL = 0.85  # sparsity at which blocks are compared
_REPEATS = 101  # samples per plan: the machine keeps a speed for some tenths of a second
_SAMPLE_S = 5e-3
_BUDGET_S = 20.0  # per plan: large networks get fewer samples, of which each is longer


def calibrate(
    prepared: PreparedModel,
    profile: Profile,
    progress: Progress,
    *,
    kept_dense: Collection[str] = (),
) -> NetworkMeasurement:
    """Measure a network on this machine.

    The machine may run slower now than when the layers were profiled: times are given for the
    speed that the profile's yardstick showed then (``runtime/pace.py``).

    Args:
        prepared: the network; its weights do not matter, and stay as they are.
        profile: prices of its layers; says back end and threads.
        progress: told after each plan.
        kept_dense: names of layers that no plan prunes.
    """
    table = LatencyTable(profile)
    library = BACKENDS.create(profile.platform.backend).operator_library()
    samples, dense_s = [], []
    with tempfile.TemporaryDirectory(prefix="pruneaug-") as folder:
        bench = _Bench(prepared, Path(folder), library, _timer(profile, library))
        for index, sparsity in enumerate(SPARSITIES):
            plan = uniform_plan(prepared, table, sparsity, kept_dense)
            timed = bench.time(plan, seed=index)
            samples.append(timed.sample(plan))
            dense_s.append(timed.dense_s)
            progress(Step("calibrate network", index + 1, len(SPARSITIES)))
    return NetworkMeasurement.fit(
        prepared.network_digest(), samples, dense_latency_s=float(np.median(dense_s))
    )


def uniform_plan(
    prepared: PreparedModel,
    table: LatencyTable,
    sparsity: float,
    kept_dense: Collection[str] = (),
) -> Plan:
    """Every layer at one sparsity, in the block that suits it best around there.

    The block of a layer does not depend on the sparsity. Dense where no block serves.
    """
    return Plan(
        tuple(
            (
                layer.name,
                DENSE
                if layer.name in kept_dense
                else _in_best_block(table, layer.geometry, sparsity),
            )
            for layer in prepared.layers
        )
    )


def predict_s(
    prepared: PreparedModel, table: LatencyTable, network: NetworkMeasurement, plan: Plan
) -> float:
    """The predicted latency of a plan, seconds."""
    return network.rest_s + sum(
        table.in_network(network, layer.name, layer.geometry, plan[layer.name], uses=layer.uses)
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
class _Timed:
    """A plan measured: the whole network, its dense peer, and each layer's share of the whole."""

    sparse_s: float
    dense_s: float
    shares: dict[str, float]

    def sample(self, plan: Plan) -> NetworkSample:
        """The plan as measured; layers that can not be pruned belong to the rest."""
        layers_s = {name: self.shares[name] * self.sparse_s for name in plan if name in self.shares}
        return NetworkSample(self.sparse_s, layers_s, {name: plan[name] for name in layers_s})


@dataclass(frozen=True, slots=True)
class _Bench:
    """Exports a network under a plan and times it beside its dense self."""

    prepared: PreparedModel
    folder: Path
    library: Path
    timer: SessionTimer

    def time(self, plan: Plan, *, seed: int) -> _Timed:
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
        batch = self.prepared.task.batch
        calls = [
            self.timer.call(sparse, self.library, batch=batch),
            self.timer.call(dense, None, batch=batch),
        ]
        ours, peer = self.timer.side_by_side(
            calls, repeats=_REPEATS, sample_s=_SAMPLE_S, budget_s=_BUDGET_S
        )
        shares = layer_shares(sparse, calls[0], self.library, clock=self.timer.clock)
        return _Timed(ours.median_s, peer.median_s, shares)


def _timer(profile: Profile, library: Path) -> SessionTimer:
    best_s = float(profile.settings.get("yardstick_s", math.inf))
    return SessionTimer(library, profile.platform.threads, yardstick_s=best_s)


def _in_best_block(table: LatencyTable, geometry: Geometry, sparsity: float) -> LayerChoice:
    def price_s(block: BlockShape) -> float:
        low, high = table.sparsity_range(geometry, block)
        return table.latency_s(
            geometry, LayerChoice(block, min(max(_TYPICAL, low), high))
        ).latency_s

    block = min(table.blocks(geometry), key=price_s, default=None)
    if block is None:
        return DENSE
    low, high = table.sparsity_range(geometry, block)
    return LayerChoice(block, sparsity) if low <= sparsity <= high else DENSE
