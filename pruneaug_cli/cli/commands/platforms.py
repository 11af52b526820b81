"""``pruneaug platforms``."""

from typing import Annotated

import typer

from pruneaug_cli.cli.options import AsJson

app = typer.Typer(
    help="Look at platform profiles: what kernels cost on a device.",
    no_args_is_help=False,
    rich_markup_mode=None,
)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the profiles that can be found.

    Looked for in ./platforms, in your data folder, and among those that come with pruneaug.
    """
    from pruneaug_cli.app.platforms import run_platforms_list
    from pruneaug_cli.app.requests import PlatformsListRequest
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.platform import platforms_view

    deliver(run_platforms_list, PlatformsListRequest(), view=platforms_view, as_json=as_json)


@app.command()
def show(
    platform: Annotated[
        str, typer.Argument(metavar="PLATFORM", show_default=False, help="Name or path.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show one profile: from which sparsity on each block shape beats the dense layer."""
    from pruneaug_cli.app.platforms import run_platforms_show
    from pruneaug_cli.app.requests import PlatformsShowRequest
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.platform import platform_view

    request = PlatformsShowRequest(platform)
    deliver(run_platforms_show, request, view=platform_view, as_json=as_json)
