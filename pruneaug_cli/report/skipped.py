"""Layers that stay dense and why, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from pruneaug_cli.report.table import Column, Table

_COLUMNS = (Column("name", "layer"), Column("kind", "kind"), Column("reason", "why"))


def skipped_tables(skipped: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """One table, or none when every layer can be pruned; columns that say nothing are left out."""
    if not skipped:
        return ()
    columns = tuple(column for column in _COLUMNS if any(column.key in row for row in skipped))
    return (Table("Layers that stay dense", columns, tuple(skipped)),)
