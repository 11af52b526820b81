"""``pruneaug export``."""

from pathlib import Path
from typing import Annotated

import typer

from pruneaug_cli.cli.options import AsJson, RunDir, TrustCheckpoint

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", show_default=False, help="The model to write.  [default: RUN/model.onnx]"
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", show_default=False,
        help="Machine the library is for: native, x86-64 (any, picks AVX-512, AVX2 or SSE when "
             "loaded), x86-64-v3, x86-64-v4, aarch64-linux-gnu.  [default: the recipe's]",
    ),
]  # fmt: skip


def export(
    run: RunDir,
    out: Out = None,
    target: Target = None,
    trust_checkpoint: TrustCheckpoint = False,
    as_json: AsJson = False,
) -> None:
    """Write the pruned model of RUN as ONNX, with the dense one beside it.

    The file is checked after writing: by onnx, in stock ONNX Runtime, and with our library, all
    against PyTorch. Sparsity is counted again from the file. The library that makes it fast lies
    beside it; without the library the file runs too, at dense speed. For a machine that is not this
    one, the library of this one is put there too: it is what the file was checked with.
    """
    from pruneaug_cli.app.export import run_export
    from pruneaug_cli.app.requests import ExportRequest
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.run import run_view

    request = ExportRequest(run, out=out, target=target, trust_checkpoint=trust_checkpoint)
    deliver(run_export, request, view=run_view, as_json=as_json)
