"""How a number of a table reads, the same in every format."""

from __future__ import annotations

from dataclasses import dataclass

from alps.evals.statistics import Interval
from alps.report.style import DASH
from alps.report.table.cells import Cell
from alps.report.table.columns import Column

UNLIKE_RANDOM = {"methods": "*", "models": "†", "": ""}
"""What the difference to Random tells apart -> its mark."""

PARTIAL = "‡"
SHARE = "Attn%"
"""The paper's head of the column of shares."""

MINUS, TO = "−", "–"


@dataclass(frozen=True, kw_only=True)
class CellText:
    """A cell in words.

    Attributes:
        value: The number, or a dash.
        marks: What is to be said about it below the table.
        std: Standard deviation over seeds with its sign, or empty.
        printed: The paper's number, or empty.
        interval: Ends of the 95 % interval, for changes McNemar's p too, or empty.
        best: Whether it stands in bold.
    """

    value: str
    marks: str = ""
    std: str = ""
    printed: str = ""
    interval: str = ""
    best: bool = False


def cell_text(cell: Cell, column: Column) -> CellText:
    """A cell as texts."""
    printed = "" if cell.printed is None else number(cell.printed, column)
    if cell.value is None:
        return CellText(value=DASH, printed=printed)
    marks = UNLIKE_RANDOM[cell.unlike_random]
    return CellText(
        value=number(cell.value, column),
        marks=marks + (PARTIAL if cell.partial else ""),
        std="" if cell.std is None else f"±{number(cell.std, column, signed=False)}",
        printed=printed,
        interval=_interval(cell, column),
        best=cell.best,
    )


def number(value: float, column: Column, signed: bool = True) -> str:
    """A number with the digits of its column; changes have a sign."""
    if column.kind == "hours":
        return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
    text = f"{value:.3f}" if column.kind == "loss" else f"{value:.2f}"
    if column.kind == "change" and signed and value >= 0:
        text = f"+{text}"
    return text.replace("-", MINUS)


def share_text(share: tuple[float, float] | None) -> str:
    """The share of Q/K/V that trains in percent, or the range of it over a row's runs."""
    if share is None:
        return DASH
    low, high = (f"{100 * end:.1f}" for end in share)
    return low if low == high else f"{low}{TO}{high}"


def _interval(cell: Cell, column: Column) -> str:
    if cell.interval is None:
        return ""
    text = interval_text(cell.interval, column)
    own = cell.from_full.p_mcnemar if column.kind == "change" and cell.from_full else None
    return text if own is None else f"{text}, p {own:.2g}"


def interval_text(ends: Interval, column: Column) -> str:
    """Both ends of an interval."""
    low, high = (number(end, column) for end in ends)
    return f"{low} to {high}" if column.kind == "change" else f"{low}{TO}{high}"
