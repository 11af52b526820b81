"""``pruneaug profile``."""

from pathlib import Path
from typing import Annotated

import typer

from pruneaug_cli.cli.options import AsJson, Threads, block, duration

Platform = Annotated[
    str, typer.Option(metavar="NAME", show_default=False, help="Name of the profile to make.")
]
Task = Annotated[
    str | None,
    typer.Option(metavar="TASK", show_default=False, help="Time the layers of this task's model."),
]
Shapes = Annotated[
    Path | None,
    typer.Option(metavar="FILE", show_default=False,
                 help="Time these geometries, one per line, such as: linear 768 3072 128."),
]  # fmt: skip
Backend = Annotated[str, typer.Option(metavar="NAME", help="Which kernels.")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", show_default=False,
                 help="File to write.  [default: platforms/NAME.json]"),
]  # fmt: skip
Budget = Annotated[
    float,
    typer.Option(
        metavar="DURATION",
        parser=duration,
        show_default=False,
        help="Time to spend.  [default: 60s]",
    ),
]
Blocks = Annotated[
    list[str] | None,
    typer.Option("--block", metavar="ROWSxCOLS", parser=block, show_default=False,
                 help="Time this block shape, such as 8x1. May be repeated."),
]  # fmt: skip
Sparsities = Annotated[
    list[float] | None,
    typer.Option("--sparsity", metavar="S", min=0.0, max=0.999, show_default=False,
                 help="Time this fraction of removed blocks. May be repeated."),
]  # fmt: skip
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of the random masks.")]


def profile(
    platform: Platform,
    task: Task = None,
    shapes: Shapes = None,
    backend: Backend = "native",
    threads: Threads = 1,
    out: Out = None,
    budget: Budget = 60.0,
    blocks: Blocks = None,
    sparsities: Sparsities = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Time our kernels on this machine, for the layers of a model, and write a platform profile.

    Each distinct layer is timed for each block shape and sparsity inside ONNX Runtime, beside
    ONNX Runtime's own dense layer. A search reads its prices from the profile.
    """
    from pruneaug_cli.app.profile import run_profile
    from pruneaug_cli.app.requests import ProfileRequest
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.errors import UsageError
    from pruneaug_cli.report.platform import platform_view

    if (task is None) == (shapes is None):
        raise UsageError(
            "expected one of --task and --shapes", hint="for example: --task builtin:digits-cnn"
        )
    request = ProfileRequest(
        platform=platform, task=task, shapes=shapes, backend=backend, threads=threads, out=out,
        budget_s=budget, blocks=tuple(blocks) if blocks else None,
        sparsities=tuple(sparsities) if sparsities else None, seed=seed,
    )  # fmt: skip
    deliver(run_profile, request, view=platform_view, as_json=as_json)
