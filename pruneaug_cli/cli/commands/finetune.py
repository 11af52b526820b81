"""``pruneaug finetune``."""

from typing import Annotated

import typer

from pruneaug_cli.cli.options import AsJson, RunDir, TrustCheckpoint

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", show_default=False,
        help="Change one of the recipe's settings of finetune, such as finetune.epochs=2. May be "
             "repeated.",
    ),
]  # fmt: skip


def finetune(
    run: RunDir,
    settings: Settings = None,
    trust_checkpoint: TrustCheckpoint = False,
    as_json: AsJson = False,
) -> None:
    """Train what the plan of RUN keeps, to win back accuracy.

    Removed blocks stay zero. With finetune.penalty_epochs, a reweighted group penalty first pushes
    small blocks towards zero. The task needs train_batches(epoch). Resumes by itself.
    """
    from pruneaug_cli.app.finetune import run_finetune
    from pruneaug_cli.app.requests import FinetuneRequest
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.run import run_view

    request = FinetuneRequest(
        run, settings=tuple(settings or ()), trust_checkpoint=trust_checkpoint
    )
    deliver(run_finetune, request, view=run_view, as_json=as_json)
