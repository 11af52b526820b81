"""``pruneaug report``: read a run's result, write its HTML."""

from pruneaug_cli.app.requests import ReportRequest
from pruneaug_cli.app.results import RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.files import write_text
from pruneaug_cli.progress import Progress, silent
from pruneaug_cli.report.html import render_html


def run_report(request: ReportRequest, progress: Progress = silent) -> RunResult:
    """Write ``report.html`` from ``result.json``.

    Raises:
        RunError: the folder holds no result.
    """
    del progress
    run = RunDirectory(request.run_dir)
    run.require(run.result, made_by=f"pruneaug search CHECKPOINT --run {request.run_dir}")
    return write_report(run)


def write_report(run: RunDirectory) -> RunResult:
    """Render what is known of a run so far."""
    document = run.read_result()
    write_text(run.report, render_html(document))
    return RunResult(run.path, document, run.report)
