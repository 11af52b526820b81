"""Several goals answered from one study: a folder for each, and the table of all above them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pruneaug_cli.app.answer import OF_THE_PLAN, Basis, keep_answer
from pruneaug_cli.app.front import write_front
from pruneaug_cli.app.outcome import drop_of, misses, result_of_study
from pruneaug_cli.app.reach import goals_named
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.results import Document, RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.errors import BudgetError, UsageError
from pruneaug_cli.progress import Progress, Step
from pruneaug_cli.search import SearchProblem, SearchResult

_OF_ONE_GOAL = (
    *OF_THE_PLAN, "goal", "plan", "layers", "files", "predicted_latency_s", "predicted_speedup",
    "expected_drop",
    "tightened", "dense.test_metric", "dense.size_bytes", "dense.spread",
)  # fmt: skip
"""What a run with one goal says and a family does not."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A question, the run that asked it, and its plan or why there is none."""

    run: RunDirectory
    recipe: Recipe
    problem: SearchProblem
    found: SearchResult | BudgetError


def asked_by(run: RunDirectory, recipe: Recipe) -> dict[str, tuple[RunDirectory, Recipe]]:
    """Folder and recipe of every goal, under its name; one without a name when it is no family.

    Raises:
        UsageError: several goals for a run that is one goal of a family itself.
    """
    members = recipe.members()
    if members and run.family is not None:
        raise UsageError(
            f"{run.path}: belongs to a family, and has one goal",
            hint=f"ask for several in the family's folder: --run {run.family}",
        )
    return {name: (run.member(name), member) for name, member in members.items()} or {
        "": (run, recipe)
    }


def keep_answers(
    run: RunDirectory, recipe: Recipe, basis: Basis, answers: Sequence[Answer], *, seconds: float
) -> Document:
    """Leave every answer in its folder, the front and the table of a family in the run's own.

    Raises:
        BudgetError: no question has an answer.
    """
    found = [answer for answer in answers if isinstance(answer.found, SearchResult)]
    if not found:
        raise _unanswered(answers)
    results = [answer.found for answer in found if isinstance(answer.found, SearchResult)]
    prepared, pricing, problem = basis.prepared, basis.pricing, found[0].problem
    write_front(run, basis, problem, results[0])
    documents = [
        keep_answer(a.run, a.recipe, basis, a.problem, result, seconds=seconds)
        for a, result in zip(found, results, strict=True)
    ]
    if found[0].run is run:
        return documents[0]
    evaluations = sum(result.evaluations for result in results)
    study = replace(results[0], evaluations=evaluations)
    news = {
        **result_of_study(recipe, prepared, pricing, problem, study),
        "family": [{"name": answer.run.path.name} for answer in found],
        "unanswered": [
            {"name": answer.run.path.name, "reason": str(answer.found), "hint": answer.found.hint}
            for answer in answers
            if isinstance(answer.found, BudgetError)
        ],
    }
    run.update_result(news, step="search", seconds=seconds, drop=_OF_ONE_GOAL)
    return refresh(run)


def _unanswered(answers: Sequence[Answer]) -> BudgetError:
    errors = {a.run.path.name: a.found for a in answers if isinstance(a.found, BudgetError)}
    error = next(iter(errors.values()))
    if len(answers) == 1:
        return error
    return BudgetError(f"{goals_named(errors)}: {error}", hint=error.hint)


def require_answers(run: RunDirectory, document: Document, result: RunResult) -> None:
    """Refuse a search that left a goal of its family without a plan.

    Raises:
        BudgetError: it did; names the goals, and where the plans of the others are; has ``result``.
    """
    unanswered = {entry["name"]: entry for entry in document.get("unanswered", ())}
    if unanswered:
        first = next(iter(unanswered.values()))
        others = ", ".join(str(member.path) for member in run.members())
        raise BudgetError(
            f"{goals_named(unanswered)}: {first['reason']}",
            hint=f"{first['hint']}; the others have their plans: {others}",
            found=result,
        )


def on_each(
    path: Path, step: Callable[[RunDirectory, Progress], Document], progress: Progress
) -> RunResult:
    """Do a step for the run in a folder, or for every member of the family in it."""
    run = RunDirectory.at(path)
    members = run.members()
    if members:
        for member in members:
            step(member, labelled(progress, member.path.name))
        return RunResult(run.path, refresh(run))
    document = step(run, progress)
    if run.family is not None:
        refresh(RunDirectory(run.family))
    return RunResult(run.path, document)


def labelled(progress: Progress, name: str) -> Progress:
    """Say which goal of a family a step is for; as it is without a name."""

    def tell(step: Step) -> None:
        progress(replace(step, stage=f"{name}: {step.stage}") if name else step)

    return tell


def refresh(run: RunDirectory) -> Document:
    """Write anew what the family's table says of its members, from their own results."""
    members = run.members()
    dense = [member.read_result().get("dense", {}) for member in members]
    tested = [known["test_metric"] for known in dense if "test_metric" in known]
    return run.update_result({
        "family": [_summary(one) for one in members],
        "dense": {"test_metric": tested[0]} if tested else {},
    })  # fmt: skip


def _summary(run: RunDirectory) -> Document:
    document = run.read_result()
    sparse = document.get("sparse", {})
    measured = "speedup" in document
    return {
        "name": run.path.name,
        "goal": document.get("goal"),
        "trial": document.get("search", {}).get("chosen"),
        "predicted_latency_s": document.get("predicted_latency_s"),
        "predicted_speedup": document.get("predicted_speedup"),
        "metric": sparse.get("metric"),
        "test_metric": sparse.get("test_metric"),
        "drop": drop_of(document),
        "latency_s": sparse.get("latency_s"),
        "speedup": document.get("speedup"),
        "size_bytes": sparse.get("size_bytes"),
        "tightened": len(document.get("tightened", ())),
        "met": not misses(document) if measured else None,
    }
