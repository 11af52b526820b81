"""``pruneaug report``."""

from pruneaug_cli.cli.options import AsJson, RunDir


def report(run: RunDir, as_json: AsJson = False) -> None:
    """Show the result of RUN, and write RUN/report.html with its plots.

    Steps that have not run yet are named, with the command that runs them.
    """
    from pruneaug_cli.app.report import run_report
    from pruneaug_cli.app.requests import ReportRequest
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.run import run_view

    deliver(run_report, ReportRequest(run), view=run_view, as_json=as_json)
