"""Operators outside the regions of an exported file and why, as a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pruneaug_cli.report.table import Column, Table
from pruneaug_cli.report.units import Value

_COLUMNS = (Column("op", "operator"), Column("count", "nodes", "count"), Column("reason", "why"))


def outside_tables(outside: Sequence[Mapping[str, Any] | str]) -> tuple[Table, ...]:
    """One table, nodes of one operator and one reason together; none when all are inside.

    Args:
        outside: ``export.outside`` of a result. Version 0.1.0 wrote a text per node; those are left
            out: the next export writes them anew.
    """
    counts = Counter(
        (str(node["op"]), str(node["reason"])) for node in outside if isinstance(node, Mapping)
    )
    if not counts:
        return ()
    rows: list[Mapping[str, Value]] = [
        {"op": op, "count": count, "reason": reason} for (op, reason), count in counts.items()
    ]
    return (Table("Outside the regions", _COLUMNS, tuple(rows)),)
