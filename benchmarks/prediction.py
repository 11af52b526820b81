"""What the profile and the calibration of a network predict for a plan that was not measured.

The layers are measured alone, for this block and the default sparsities, and the network whole
under uniform plans at other sparsities than those predicted (``app/calibration.py``). Both give
times for the machine at its best; so the prediction is a speed-up, and the predicted latency is
the dense one measured now over it.
"""

from types import SimpleNamespace

from networks import Network
from random_models import Case, trace

from pruneaug_cli.app.calibration import SPARSITIES, calibrate, predict_s, uniform_plan
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.core import BlockShape
from pruneaug_cli.errors import UsageError
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.platforms import LatencyTable
from pruneaug_cli.profiling import profile_platform
from pruneaug_cli.progress import silent
from pruneaug_cli.tasks import Task


class Predictor:
    """Predictions for one network in one block shape; measures when it is made.

    Args:
        network: whose layers are measured.
        block: of the plans that will be asked for.
        threads: of every session.
        budget_s: seconds for the layers; the plans of the whole network come on top.
    """

    def __init__(
        self, network: Network, block: BlockShape, *, threads: int, budget_s: float
    ) -> None:
        model, example, found = trace(network)
        task = Task(network.name, SimpleNamespace(example_inputs=lambda: example))
        self._prepared = PreparedModel(task, model, found, "")
        self._kept_dense = found.names[: network.dense_layers]
        profile = profile_platform(
            [layer.geometry for layer in found.layers],
            backend=BACKENDS.create("native"), name=network.name, threads=threads,
            blocks=(block,), budget_s=budget_s,
        )  # fmt: skip
        self._table = LatencyTable(profile)
        self._network = calibrate(self._prepared, profile, silent, kept_dense=self._kept_dense)

    def speedup(self, sparsity: float) -> float:
        """Predicted dense latency over that of the uniform plan.

        Raises:
            UsageError: the plan is one of those the prediction is made from.
        """
        if sparsity in SPARSITIES:
            raise UsageError(f"--predict: sparsity {sparsity:g} is measured, not predicted")
        plan = uniform_plan(self._prepared, self._table, sparsity, self._kept_dense)
        ours_s = predict_s(self._prepared, self._table, self._network, plan)
        return self._network.dense_latency_s / ours_s

    @property
    def error(self) -> float:
        """The largest error of predicting one calibration plan from the others."""
        return self._network.error


class Predictors:
    """A predictor for each network and block that is asked for.

    Args:
        threads: of every session.
        budget_s: seconds for the layers of each.
    """

    def __init__(self, threads: int, budget_s: float) -> None:
        self._threads, self._budget_s = threads, budget_s
        self._made: dict[tuple[str, BlockShape], Predictor] = {}

    def columns(self, case: Case, dense_s: float, sparse_s: float) -> dict[str, object]:
        """``predicted_s`` for the machine as fast as it was when ``dense_s`` was measured.

        ``prediction_error`` compares it to ``sparse_s``; ``fit_error`` is that among the plans it
        is made from.
        """
        key = (case.network.name, case.block)
        if key not in self._made:
            self._made[key] = Predictor(
                case.network, case.block, threads=self._threads, budget_s=self._budget_s
            )
        predictor = self._made[key]
        predicted_s = dense_s / predictor.speedup(case.sparsity)
        error = predicted_s / sparse_s - 1.0
        return {
            "predicted_s": predicted_s,
            "prediction_error": error,
            "fit_error": predictor.error,
        }
