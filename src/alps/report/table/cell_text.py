"""The texts of a table's rows and cells, the same in every format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from alps.report.style import DASH
from alps.report.table.cells import Cell, FilledTable
from alps.report.table.columns import TO, Column
from alps.report.table.provenance import Provenance

UNLIKE_RANDOM = {"methods": "*", "models": "†", "": ""}
"""`Cell.unlike_random` -> its mark."""

PARTIAL = "‡"
SHARE = "Attn%"
"""The paper's heading of the column of shares."""

INTERVAL = "95 %"
"""Label of the line of intervals below a row."""


@dataclass(frozen=True, kw_only=True)
class CellText:
    """The texts of a cell.

    Attributes:
        value: The value, or a dash.
        marks: Symbols that the notes below the table explain.
        std: Standard deviation over seeds with its sign, or empty.
        printed: The paper's number, or empty.
        interval: Ends of the 95 % interval, for changes McNemar's p too, or empty.
        best: Whether it is bold.
    """

    value: str
    marks: str = ""
    std: str = ""
    printed: str = ""
    interval: str = ""
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class RowText:
    """The texts of a row.

    Attributes:
        label: Name of the row.
        letters: Letters of the notes about it, or empty.
        share: Share of Q/K/V that trains.
        cells: One for each column.
        starts_block: Whether it is the first row of a block other than the table's first.
    """

    label: str
    letters: str
    share: str
    cells: tuple[CellText, ...]
    starts_block: bool

    @property
    def has_intervals(self) -> bool:
        """Whether a line of intervals stands below it."""
        return any(cell.interval for cell in self.cells)


def row_texts(filled: FilledTable, found: Provenance) -> Iterator[RowText]:
    """The texts of all rows."""
    block = None
    for i, (row, cells) in enumerate(filled.rows()):
        yield RowText(
            label=row.label,
            letters=found.marks.get(i, ""),
            share=share_text(filled.shares[i]),
            cells=tuple(map(cell_text, cells, filled.layout.columns)),
            starts_block=block not in (None, row.block),
        )
        block = row.block


def cell_text(cell: Cell, column: Column) -> CellText:
    """The texts of a cell."""
    printed = "" if cell.printed is None else column.text(cell.printed)
    if cell.value is None:
        return CellText(value=DASH, printed=printed)
    marks = UNLIKE_RANDOM[cell.unlike_random]
    return CellText(
        value=column.text(cell.value),
        marks=marks + (PARTIAL if cell.partial else ""),
        std="" if cell.std is None else f"±{column.text(cell.std)}",
        printed=printed,
        interval=column.interval_text(cell),
        best=cell.best,
    )


def share_text(share: tuple[float, float] | None) -> str:
    """The share of Q/K/V that trains in percent, or its range over the row's runs."""
    if share is None:
        return DASH
    low, high = (f"{100 * end:.1f}" for end in share)
    return low if low == high else f"{low}{TO}{high}"
