"""``pruneaug choose``: a point of the front that the user wants, as a run of its own."""

import time

from pruneaug_cli.app.answer import Basis, keep_plan
from pruneaug_cli.app.evaluator import stitched
from pruneaug_cli.app.front import read_front, trial_of
from pruneaug_cli.app.outcome import result_of_plan, result_of_task
from pruneaug_cli.app.prepared import prepare_recipe
from pruneaug_cli.app.pricing import price
from pruneaug_cli.app.recipe import Goal
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.requests import ChooseRequest
from pruneaug_cli.app.results import RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.errors import RunError
from pruneaug_cli.evaluation import open_database
from pruneaug_cli.progress import Progress, silent
from pruneaug_cli.search import SearchProblem

_NO_GOAL = Goal.model_validate({"max_drop": None})


def run_choose(request: ChooseRequest, progress: Progress = silent) -> RunResult:
    """Make the plan of a trial on the front that of ``RUN/trial-N``; nothing is evaluated.

    Raises:
        RunError: there is no front yet, the trial is not on it, or it is of other weights, dense or
            pruned.
    """
    started = time.monotonic()
    above = RunDirectory.at(request.run_dir)
    above = RunDirectory(above.shared)
    front = read_front(above)
    trial = trial_of(above, front, request.trial)
    recipe = read_recipe(above.require(above.recipe)).model_copy(update={"goal": _NO_GOAL})
    prepared = prepare_recipe(recipe, trust=request.trust_checkpoint)
    if front["checkpoint"] != prepared.checkpoint:
        raise RunError(
            f"{above.front}: is about other weights than {recipe.checkpoint or 'the task has now'}",
            hint="search again with these, in another folder",
        )
    run = above.member(f"trial-{request.trial}")
    then = recipe.model_copy(update={"platform": str(above.require(above.profile))})
    pricing, database = price(prepared, then, above, progress), open_database(above.database)
    if front["database"] != database.digest:
        raise RunError(
            f"{above.front}: is about other pruned weights than {above.database} holds now",
            hint=f"search again as before: {above.search_command}",
        )
    basis = Basis(prepared, pricing, database, stitched(prepared, database))
    problem = SearchProblem(
        pricing.options(database.harm),
        pricing.network.rest_s,
        front["dense"]["metric"],
        prepared.task.higher_is_better,
        target_latency_s=trial.predicted_latency_s,
    )
    news = {
        **result_of_task(recipe, prepared, pricing),
        **result_of_plan(recipe, prepared, pricing, problem, trial),
        "dense": front["dense"],
    }
    seconds = time.monotonic() - started
    return RunResult(run.path, keep_plan(run, recipe, basis, trial, news, seconds=seconds))
