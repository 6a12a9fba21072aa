"""Tables of texts on the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def terminal(min_width: int) -> Console:
    """A console, at least `min_width` characters wide where output is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, min_width))
    return console


def terminal_table(
    headings: Iterable[str], left: Collection[str] = (), rows: Iterable[Sequence[str]] = ()
) -> Table:
    """A table without borders, for the terminal; texts are no markup.

    Args:
        headings: Of the columns.
        left: Headings of the columns that are left-aligned.
        rows: Cells.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for heading in headings:
        justify = "left" if heading in left else "right"
        table.add_column(Text(heading), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def markdown_table(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of headings, their alignment, and rows of cells."""
    clean = [[" ".join(cell.replace("|", "/").split()) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in clean)


def csv_table(rows: Iterable[Sequence[Any]]) -> str:
    """A CSV table of headings and rows; None is empty."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
