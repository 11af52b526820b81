"""``pruneaug run``."""

from pathlib import Path
from typing import Annotated

import typer

from pruneaug_cli.cli.options import AsJson, RunFolder, Settings, Storage, TrustCheckpoint

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", show_default=False, help="A recipe: recipe.yaml.")
]


def run(
    recipe: RecipeFile,
    run_dir: RunFolder = None,
    settings: Settings = None,
    storage: Storage = None,
    trust_checkpoint: TrustCheckpoint = False,
    as_json: AsJson = False,
) -> None:
    """Go the whole way: profile, search, fine-tune, export, bench, report.

    RECIPE says for what; recipes/ holds examples with comments. Running the same command again
    continues where it was interrupted.
    """
    from pruneaug_cli.app.requests import RunRequest
    from pruneaug_cli.app.run import run_run
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.run import run_view

    request = RunRequest(
        recipe=recipe,
        settings=tuple(settings or ()),
        run_dir=run_dir,
        storage=storage,
        trust_checkpoint=trust_checkpoint,
    )
    deliver(run_run, request, view=run_view, as_json=as_json)
