"""``pruneaug doctor``."""

import typer

from pruneaug_cli.cli.options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Show what this machine can do: processor, compiler, kernels, packages.

    Exits with 1 when something that pruneaug needs does not work.
    """
    from pruneaug_cli.app.doctor import run_doctor
    from pruneaug_cli.app.requests import DoctorRequest
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.doctor import doctor_view

    result = deliver(run_doctor, DoctorRequest(), view=doctor_view, as_json=as_json)
    if not result.healthy:
        raise typer.Exit(1)
