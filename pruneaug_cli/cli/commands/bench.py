"""``pruneaug bench``."""

from pathlib import Path
from typing import Annotated

import typer

from pruneaug_cli.cli.options import AsJson, Threads, duration

SparseModel = Annotated[
    Path, typer.Argument(metavar="MODEL.onnx", show_default=False, help="The block-sparse model.")
]
DenseModel = Annotated[
    Path,
    typer.Option(
        "--against", metavar="DENSE.onnx", show_default=False, help="The model to compare with."
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds",
        metavar="DURATION",
        parser=duration,
        show_default=False,
        help="Time to spend.  [default: 5s]",
    ),
]
Library = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", show_default=False,
        help="Library of our operators.  [default: the one beside MODEL.onnx]",
    ),
]  # fmt: skip

Batch = Annotated[
    int | None,
    typer.Option(
        metavar="SAMPLES", min=1, show_default=False,
        help="Samples per run.  [default: those of the example inputs it was exported with]",
    ),
]  # fmt: skip


def bench(
    sparse: SparseModel,
    dense: DenseModel,
    threads: Threads = 1,
    seconds: Seconds = 5.0,
    library: Library = None,
    batch: Batch = None,
    as_json: AsJson = False,
) -> None:
    """Time two models side by side: one process, alternating, medians with their spread.

    The spread is the inter-quartile range of the samples over their median.
    """
    from pruneaug_cli.app.bench import run_bench
    from pruneaug_cli.app.requests import BenchRequest
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.bench import bench_view

    request = BenchRequest(
        sparse=sparse, dense=dense, threads=threads, seconds=seconds, library=library, batch=batch
    )
    deliver(run_bench, request, view=bench_view, as_json=as_json)
