"""``pruneaug report``: read a run's result, write its HTML."""

from pruneaug_cli.app.family import on_each
from pruneaug_cli.app.outcome import judged
from pruneaug_cli.app.requests import ReportRequest
from pruneaug_cli.app.results import Document, RunResult
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.files import write_text
from pruneaug_cli.progress import Progress, silent
from pruneaug_cli.report.html import render_html


def run_report(request: ReportRequest, progress: Progress = silent) -> RunResult:
    """Write ``report.html`` from ``result.json``; in a family for each member, and for all.

    Raises:
        RunError: the folder holds no result.
    """

    def write(run: RunDirectory, progress: Progress) -> Document:
        del progress
        run.require(run.result)
        return write_report(run).document

    on_each(request.run_dir, write, progress)
    return write_report(RunDirectory.at(request.run_dir))


def write_report(run: RunDirectory) -> RunResult:
    """Render what is known of a run so far."""
    document = judged(run.read_result())
    write_text(run.report, render_html(document))
    return RunResult(run.path, document, run.report)
