"""A filled table on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alps.report.table.cell_text import INTERVAL, SHARE, CellText, row_texts
from alps.report.table.cells import FilledTable
from alps.report.table.notes import Notes
from alps.report.table.provenance import Provenance
from alps.report.text_tables import terminal

if TYPE_CHECKING:
    from rich.text import Text

WIDEST_CELL = 44


def print_filled(title: str, filled: FilledTable, found: Provenance, notes: Notes) -> None:
    """Prints the table and its notes."""
    from rich.table import Table
    from rich.text import Text

    columns = filled.layout.columns
    grid = Table(show_edge=False, pad_edge=False)
    grid.add_column("", overflow="fold")
    grid.add_column(SHARE, justify="right", no_wrap=True)
    for column in columns:
        grid.add_column(column.label, justify="right", overflow="fold")
    for row in row_texts(filled, found):
        if row.starts_block:
            grid.add_section()
        letters = f" [{row.letters}]" if row.letters else ""
        grid.add_row(Text(row.label + letters), row.share, *map(_cell, row.cells))
        if row.has_intervals:
            small = (Text(cell.interval, style="dim") for cell in row.cells)
            grid.add_row(Text(f"  {INTERVAL}", style="dim"), "", *small)
    console = terminal(WIDEST_CELL * (1 + len(columns)))
    console.print(title, style="bold", markup=False)
    console.print(grid)
    for sentence in (*notes.reading, *(f"[{m}] {t}" for m, t in notes.marks), *notes.facts):
        console.print(sentence, style="dim", markup=False, soft_wrap=True)
    for sentence in notes.gaps:
        console.print(sentence, markup=False, soft_wrap=True)


def _cell(text: CellText) -> Text:
    from rich.text import Text

    found = Text(text.value + text.marks, style="bold" if text.best else "")
    if text.std:
        found.append(f" {text.std}", style="dim")
    if text.printed:
        found.append(f" ({text.printed})", style="dim")
    return found
