"""``pruneaug bench``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pruneaug_cli.cli.options import AsJson, duration

SparseModel = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL.onnx|RUN", show_default=False,
        help="The block-sparse model; or the folder of a run, for its own two models.",
    ),
]  # fmt: skip
DenseModel = Annotated[
    Path | None,
    typer.Option(
        "--against", metavar="DENSE.onnx", show_default=False, help="The model to compare with."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", show_default=False,
        help="Threads of ONNX Runtime.  [default: 1; of a run: its recipe's]",
    ),
]  # fmt: skip
Seconds = Annotated[
    float | None,
    typer.Option(
        "--seconds",
        metavar="DURATION",
        parser=duration,
        show_default=False,
        help="Time to spend.  [default: 5s; of a run: its recipe's]",
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
    dense: DenseModel = None,
    threads: Threads = None,
    seconds: Seconds = None,
    library: Library = None,
    batch: Batch = None,
    as_json: AsJson = False,
) -> None:
    """Time two models side by side: one process, alternating, medians with their spread.

    The spread is the inter-quartile range of the samples over their median. With the folder of a
    run the figures go into its result; in the folder of a family every member is timed.
    """
    from pruneaug_cli.cli.deliver import deliver

    if sparse.is_dir():
        from pruneaug_cli.app.requests import BenchRunRequest
        from pruneaug_cli.app.timing import run_bench_run
        from pruneaug_cli.report.run import run_view

        _refuse_files(sparse, {"--against": dense, "--library": library, "--batch": batch})
        of_run = BenchRunRequest(sparse, threads=threads, seconds=seconds)
        deliver(run_bench_run, of_run, view=run_view, as_json=as_json)
    else:
        from pruneaug_cli.app.bench import run_bench
        from pruneaug_cli.app.requests import BenchRequest
        from pruneaug_cli.report.bench import bench_view

        request = BenchRequest(
            sparse=sparse, dense=_required(dense, sparse), threads=threads or 1,
            seconds=seconds or 5.0, library=library, batch=batch,
        )  # fmt: skip
        deliver(run_bench, request, view=bench_view, as_json=as_json)


def _refuse_files(run: Path, given: Mapping[str, object]) -> None:
    from pruneaug_cli.app.run_directory import RunDirectory
    from pruneaug_cli.errors import UsageError

    for option, value in given.items():
        if value is not None:
            here = RunDirectory.at(run)
            first = next(iter(here.members()), here)
            raise UsageError(
                f"{option} {value}: {run} is a run, which is timed as it was exported",
                hint=f"name its file: pruneaug bench {first.model} --against …",
            )


def _required(dense: Path | None, sparse: Path) -> Path:
    from pruneaug_cli.errors import UsageError

    if dense is None:
        raise UsageError(
            f"{sparse}: no model is given to compare it with",
            hint="name it: --against DENSE.onnx; or name the folder of a run: it has both",
        )
    return dense
