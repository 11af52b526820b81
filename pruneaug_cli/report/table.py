"""A table of raw values that renders to the terminal, Markdown, JSON and HTML."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pruneaug_cli.report.units import Kind, Value, number, show, unit


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the key of its values, its heading, and what kind of quantity it holds.

    A terminal that is too narrow leaves columns out, those with the highest ``spare`` first, never
    those with 0.
    """

    key: str
    heading: str
    kind: Kind = "text"
    spare: int = 0

    @property
    def title(self) -> str:
        """Heading with its unit."""
        return f"{self.heading}{unit(self.kind)}"

    @property
    def is_number(self) -> bool:
        """Whether the column is set flush right."""
        return self.kind != "text"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of raw values (seconds, fractions, bytes) under columns that know how to show them.

    Attributes:
        title: one line above.
        columns: what is shown, in order.
        rows: one mapping per row; a key that is missing shows as a dash.
        notes: lines below.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Value], ...]
    notes: tuple[str, ...] = ()

    def cells(self) -> list[list[str]]:
        """The shown text of every cell."""
        return [[show(c.kind, row.get(c.key)) for c in self.columns] for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """Raw values; what is not finite becomes null."""
        return {
            "title": self.title,
            "rows": [
                {column.key: _plain(row.get(column.key)) for column in self.columns}
                for row in self.rows
            ],
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """A Markdown table with its title in bold above and its notes below.

        Example:
            >>> table = Table("Times", (Column("s", "time", "ms"),), ({"s": 0.002},))
            >>> print(table.to_markdown())
            **Times**
            <BLANKLINE>
            | time (ms) |
            | ---: |
            | 2.000 |
            <BLANKLINE>
        """
        lines = [f"**{_markdown(self.title)}**", ""]
        if self.columns:
            lines.append(_markdown_row([column.title for column in self.columns]))
            lines.append(_markdown_row(["---:" if c.is_number else "---" for c in self.columns]))
            lines += [_markdown_row([_markdown(cell) for cell in row]) for row in self.cells()]
            lines.append("")
        lines += [f"{_markdown(note)}\n" for note in self.notes]
        return "\n".join(lines)

    def to_html(self) -> str:
        """A ``section`` with a heading, the table and its notes; every text is escaped."""
        parts = ["<section>", f"<h2>{html.escape(self.title)}</h2>"]
        if self.columns:
            parts += ["<table>", "<tr>"]
            parts += [f"<th{_css(c)}>{html.escape(c.title)}</th>" for c in self.columns]
            parts.append("</tr>")
            parts += [self._html_row(row) for row in self.cells()]
            parts.append("</table>")
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return "\n".join([*parts, "</section>"])

    def _html_row(self, cells: list[str]) -> str:
        pairs = zip(self.columns, cells, strict=True)
        return "<tr>" + "".join(f"<td{_css(c)}>{html.escape(t)}</td>" for c, t in pairs) + "</tr>"


def _css(column: Column) -> str:
    return ' class="number"' if column.is_number else ""


def _plain(value: Value) -> Value:
    return value if value is None or isinstance(value, str | int) else number(value)


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    """Keep a layer's name from being read as markup or as a column border."""
    escaped = html.escape(text, quote=False)
    for sign in "\\`*_|[]":
        escaped = escaped.replace(sign, f"\\{sign}")
    return " ".join(escaped.split())
