"""How many plans there are before and after each cut, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import MISSING, number

_COLUMNS = (
    Column("name", "cut"),
    Column("options", "options", "count"),
    Column("distinct", "once per shape", "count"),
    Column("plans", "plans"),
)


def space_tables(space: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """One row per cut, in the order they were made; none where nothing is known of them.

    Args:
        space: ``[{name, options, distinct, log10_plans}]``: what is left after each.
    """
    if not space:
        return ()
    rows = tuple({**row, "plans": _power(number(row.get("log10_plans")))} for row in space)
    return (Table("Size of the search space", _COLUMNS, rows),)


def _power(log10: float | None) -> str:
    return MISSING if log10 is None else f"10^{log10:.1f}"
