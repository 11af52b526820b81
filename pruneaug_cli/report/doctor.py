"""What the doctor found, as a table."""

from typing import Any

from pruneaug_cli.report.table import Column, Table

_SIGNS = {"ok": "ok", "missing": "missing (optional)", "failed": "FAILED"}


def doctor_view(document: dict[str, Any]) -> tuple[Table, ...]:
    """Checks with their state; below, what to do about those that are not well."""
    checks = document["checks"]
    return (
        Table(
            "This machine",
            (Column("name", "what"), Column("status", "state"), Column("found", "found")),
            tuple({**check, "status": _SIGNS[check["status"]]} for check in checks),
            tuple(f"{check['name']}: {check['hint']}" for check in checks if check["hint"]),
        ),
    )
