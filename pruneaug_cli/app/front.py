"""The Pareto front of a study as a file: every plan that no other beats in latency and metric.

``front.json``: ``task``, ``platform``, ``checkpoint`` (digest), ``database`` (digest of the pruned
weights), ``higher_is_better``, ``dense`` {metric, latency_s}, and ``front``, fastest first:
[{trial, plan, predicted_latency_s, predicted_speedup, metric, drop, expected_drop}]. A drop is
positive when worse, in the metric's own unit; metrics are those of the search, before any training;
an expected drop is what plans with outputs as far from the dense model's lose on average, or null.

Schema history (``schema_version``):
    1: first version.
    2: with the digest of the database, and expected drops.
"""

from pruneaug_cli import files
from pruneaug_cli.app.answer import Basis
from pruneaug_cli.app.results import Document
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.core import Plan
from pruneaug_cli.errors import RunError
from pruneaug_cli.search import SearchProblem, SearchResult, Trial, expected_drops

FRONT_VERSION = 2


def write_front(
    run: RunDirectory, basis: Basis, problem: SearchProblem, found: SearchResult
) -> None:
    """Write the front of the study that a search left."""
    prepared, pricing = basis.prepared, basis.pricing
    dense_s = pricing.network.dense_latency_s
    expected = {
        trial.number: drop
        for trial, drop in zip(found.trials, expected_drops(problem, found.trials), strict=True)
    }
    document = {
        "schema_version": FRONT_VERSION,
        "task": prepared.task.address,
        "platform": pricing.profile.name,
        "checkpoint": prepared.checkpoint,
        "database": basis.database.digest,
        "higher_is_better": prepared.task.higher_is_better,
        "dense": {"metric": problem.dense_metric, "latency_s": dense_s},
        "front": [
            {
                "trial": trial.number,
                "predicted_latency_s": trial.predicted_latency_s,
                "predicted_speedup": dense_s / trial.predicted_latency_s,
                "metric": trial.metric,
                "drop": problem.drop(trial.metric),
                "expected_drop": expected[trial.number],
                "plan": trial.plan.to_json(),
            }
            for trial in found.front
        ],
    }
    files.write_json(run.front, document)


def read_front(run: RunDirectory) -> Document:
    """Read ``front.json``.

    Raises:
        RunError: there is none yet, or it is malformed or of another version.
    """
    path = run.front
    if not path.exists():
        run.require(path)
    return files.read_json(path, kind="front", version=FRONT_VERSION, error=RunError,
                           hint=f"make it again with: {run.search_command}")  # fmt: skip


def trial_of(run: RunDirectory, front: Document, number: int) -> Trial:
    """A trial of the front by its number.

    Raises:
        RunError: it is not on the front, which is named; or the file is malformed.
    """
    try:
        points = {int(point["trial"]): point for point in front["front"]}
        if number not in points:
            raise RunError(
                f"{run.front}: trial {number} is not on the front",
                hint=f"its trials, fastest first: {', '.join(map(str, points))}",
            )
        point = points[number]
        return Trial(
            number,
            Plan.from_json(point["plan"]),
            float(point["predicted_latency_s"]),
            float(point["metric"]),
            seconds=0.0,
            origin="",
        )
    except KeyError as error:
        raise RunError(f"{run.front}: missing {error.args[0]!r}") from error
    except (TypeError, ValueError) as error:
        raise RunError(f"{run.front}: {error}") from error
