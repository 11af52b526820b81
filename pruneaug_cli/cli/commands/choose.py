"""``pruneaug choose``."""

from typing import Annotated

import typer

from pruneaug_cli.cli.options import AsJson, RunDir, TrustCheckpoint

Trial = Annotated[
    int,
    typer.Argument(metavar="TRIAL", show_default=False,
                   help="Number of a trial on the front: RUN/front.json."),
]  # fmt: skip


def choose(
    run: RunDir,
    trial: Trial,
    trust_checkpoint: TrustCheckpoint = False,
    as_json: AsJson = False,
) -> None:
    """Take another plan of the Pareto front that a search left.

    The plan gets a folder of its own, RUN/trial-N, for finetune, export, bench and report. Nothing
    is evaluated.
    """
    from pruneaug_cli.app.choose import run_choose
    from pruneaug_cli.app.requests import ChooseRequest
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.run import run_view

    request = ChooseRequest(run, trial, trust_checkpoint=trust_checkpoint)
    deliver(run_choose, request, view=run_view, as_json=as_json)
