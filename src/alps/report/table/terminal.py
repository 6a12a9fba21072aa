"""A filled table on the terminal."""

from __future__ import annotations

from alps.report.table.cell_text import SHARE, CellText, cell_text, share_text
from alps.report.table.cells import FilledTable
from alps.report.table.formats import INTERVAL
from alps.report.table.notes import Notes
from alps.report.table.provenance import Provenance

WIDEST_CELL = 44


def print_filled(title: str, filled: FilledTable, found: Provenance, notes: Notes) -> None:
    """Prints the table and what is said about it; nothing is cut where output is no terminal.

    Args:
        title: First line.
        filled: The table.
        found: Where its numbers come from.
        notes: Sentences below it.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(show_edge=False, pad_edge=False)
    grid.add_column("", overflow="fold")
    grid.add_column(SHARE, justify="right", no_wrap=True)
    for column in filled.layout.columns:
        grid.add_column(column.label, justify="right", overflow="fold")
    block = None
    for i, (row, cells) in enumerate(filled.lines()):
        if block is not None and row.block != block:
            grid.add_section()
        block = row.block
        texts = [cell_text(c, k) for c, k in zip(cells, filled.layout.columns, strict=True)]
        mark = f" [{found.marks[i]}]" if i in found.marks else ""
        grid.add_row(Text(row.label + mark), share_text(filled.shares[i]), *map(_cell, texts))
        if any(text.interval for text in texts):
            small = (Text(text.interval, style="dim") for text in texts)
            grid.add_row(Text(f"  {INTERVAL}", style="dim"), "", *small)
    console = Console(highlight=False)
    if not console.is_terminal:
        width = WIDEST_CELL * (1 + len(filled.layout.columns))
        console = Console(highlight=False, width=max(console.width, width))
    console.print(title, style="bold", markup=False)
    console.print(grid)
    for sentence in (*notes.reading, *(f"[{m}] {t}" for m, t in notes.marks), *notes.facts):
        console.print(sentence, style="dim", markup=False, soft_wrap=True)
    for sentence in notes.gaps:
        console.print(sentence, markup=False, soft_wrap=True)


def _cell(text: CellText):
    from rich.text import Text

    found = Text(text.value + text.marks, style="bold" if text.best else "")
    if text.std:
        found.append(f" {text.std}", style="dim")
    if text.printed:
        found.append(f" ({text.printed})", style="dim")
    return found
