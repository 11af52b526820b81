"""Tables as text: as wide as the terminal on one, and 140 characters wide in a file or a pipe."""

import io
from collections.abc import Sequence
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
    console = Console(file=stream, width=width, highlight=False, soft_wrap=False)
    for table in tables:
        console.print(Text(table.title, style="bold"))
        if table.columns:
            console.print(_rich(table))
        for note in table.notes:
            console.print(Text(note), soft_wrap=True)
        console.print()


def to_text(tables: Sequence[Table]) -> str:
    """The same as plain text."""
    stream = io.StringIO()
    print_tables(tables, stream)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _rich(table: Table) -> RichTable:
    rich = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns:
        rich.add_column(
            Text(column.title), justify="right" if column.is_number else "left", overflow="fold"
        )
    for cells in table.cells():
        rich.add_row(*map(Text, cells))
    return rich
