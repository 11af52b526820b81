"""What runs inside a worker, whichever engine started it."""

import time

from pruneaug_cli.children import portable
from pruneaug_cli.core import Evaluation, Plan
from pruneaug_cli.search.engine import MakeEvaluate, Outcome, measured
from pruneaug_cli.search.trial import Evaluate


class Worker:
    """Evaluates plans one after the other; the evaluation is made with the first.

    Args:
        make: makes the evaluation.
    """

    def __init__(self, make: MakeEvaluate) -> None:
        self._make = make
        self._evaluate: Evaluate | None = None

    def outcome(self, plan: Plan) -> Outcome:
        """What becomes of a plan; whatever is raised is part of the outcome."""
        started = time.monotonic()
        try:
            if self._evaluate is None:
                self._evaluate = self._make()
                started = time.monotonic()
            result: Evaluation | Exception = measured(self._evaluate(plan))
        except Exception as error:  # noqa: BLE001  the search raises it
            result = portable(error)
        return Outcome(plan, result, time.monotonic() - started)
