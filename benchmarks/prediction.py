"""What the profile and the calibration of a network predict for a plan that was not measured.

The layers are measured alone, for this block and the default sparsities, and the network whole
under uniform plans at other sparsities than those predicted (``app/calibration.py``). All times are
for the machine at one speed (``runtime/pace.py``), that of the profile; so what is predicted is
compared to the file as ``pruneaug run`` would time it, not to times of a machine faster or slower.
"""

from types import SimpleNamespace

from networks import Network
from random_models import Case, ModelFiles, trace

from pruneaug_cli.app.calibration import SPARSITIES, calibrate, predict_s, uniform_plan
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.core import BlockShape
from pruneaug_cli.errors import UsageError
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.platforms import LatencyTable
from pruneaug_cli.profiling import SessionTimer, profile_platform
from pruneaug_cli.progress import silent
from pruneaug_cli.tasks import Task

REPEATS, SAMPLE_S, BUDGET_S = 51, 5e-3, 10.0


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
        self._library = BACKENDS.create("native").operator_library()
        best_s = float(profile.settings["yardstick_s"])
        self._timer = SessionTimer(self._library, threads, yardstick_s=best_s)

    def predict_s(self, sparsity: float) -> float:
        """Predicted latency of the uniform plan.

        Raises:
            UsageError: the plan is one of those the prediction is made from.
        """
        if sparsity in SPARSITIES:
            raise UsageError(f"--predict: sparsity {sparsity:g} is measured, not predicted")
        plan = uniform_plan(self._prepared, self._table, sparsity, self._kept_dense)
        return predict_s(self._prepared, self._table, self._network, plan)

    def measure_s(self, files: ModelFiles) -> float:
        """Latency of the exported plan, at the speed that predictions are given for."""
        batch = self._prepared.task.batch
        calls = [
            self._timer.call(files.sparse, self._library, batch=batch),
            self._timer.call(files.dense, None, batch=batch),
        ]
        ours, _ = self._timer.side_by_side(
            calls, repeats=REPEATS, sample_s=SAMPLE_S, budget_s=BUDGET_S
        )
        return ours.median_s

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

    def columns(self, case: Case, files: ModelFiles) -> dict[str, object]:
        """``predicted_s``, and ``paced_s``: what was measured then, at the same speed.

        ``prediction_error`` compares the two; ``fit_error`` is that among the plans the prediction
        is made from.
        """
        key = (case.network.name, case.block)
        if key not in self._made:
            self._made[key] = Predictor(
                case.network, case.block, threads=self._threads, budget_s=self._budget_s
            )
        predictor = self._made[key]
        predicted_s, paced_s = predictor.predict_s(case.sparsity), predictor.measure_s(files)
        return {
            "predicted_s": predicted_s,
            "paced_s": paced_s,
            "prediction_error": predicted_s / paced_s - 1.0,
            "fit_error": predictor.error,
        }
