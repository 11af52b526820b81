"""Tables as text: as wide as the terminal on one, and 140 characters wide in a file or a pipe.

Where a table is wider than that, its spare columns are left out, and named below.
"""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from pruneaug_cli.report.table import Table

_WIDTH = 140


def print_tables(tables: Sequence[Table], stream: TextIO) -> None:
    """Write ``tables`` to ``stream``, in colour where it is a terminal."""
    width = None if stream.isatty() else _WIDTH
    console = Console(
        file=stream, width=width, force_terminal=stream.isatty(), highlight=False, soft_wrap=False
    )  # fmt: skip
    for table in tables:
        console.print(Text(table.title, style="bold"))
        if table.columns:
            fitting = _fit(table, console)
            console.print(_rich(fitting))
            left_out = [c.heading for c in table.columns if c not in fitting.columns]
            if left_out:
                text = f"For want of width without: {', '.join(left_out)}."
                console.print(Text(text, style="dim"), soft_wrap=True)
        for note in table.notes:
            console.print(Text(note), soft_wrap=True)
        console.print()


def to_text(tables: Sequence[Table]) -> str:
    """The same as plain text."""
    stream = io.StringIO()
    print_tables(tables, stream)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _fit(table: Table, console: Console) -> Table:
    """Leave out spare columns until the table is no wider than the console, if that is possible."""
    while console.measure(_rich(table), options=console.options.update(width=1000)).maximum > (
        console.width
    ):
        spare = max(table.columns, key=lambda column: column.spare)
        if not spare.spare:
            break
        table = replace(table, columns=tuple(c for c in table.columns if c is not spare))
    return table


def _rich(table: Table) -> RichTable:
    rich = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns:
        rich.add_column(
            Text(column.title), justify="right" if column.is_number else "left", overflow="fold"
        )
    for cells in table.cells():
        rich.add_row(*map(Text, cells))
    return rich
