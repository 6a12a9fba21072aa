"""Bars of a table: a panel for each model, a group for each benchmark, a bar for each row.

Figure 2 (methods on models and tasks), Figure 6 (transfer) and Table 11 (hours) are of this sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alps.report.cell_text import number
from alps.report.cells import Cell, Filled
from alps.report.columns import Column
from alps.report.layout import Row
from alps.report.style import (
    EDGE,
    PAPER,
    SMALL,
    TEXT,
    TITLE,
    WIDTH,
    Look,
    looks,
    new_figure,
    plain_axes,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, LEGEND, BAR_ROW = 2.1, 0.55, 0.3
"""Inches: height of a panel, of the legend, and of a horizontal bar."""

LETTER, HANDLE = 0.07, 0.5
"""Inches that a letter of a legend takes, and the patch before it with its margins."""

LOWEST_TOP = 5.0
"""Percent that an axis goes up to at least: scores of zero show as zero."""

SPACE = 0.8
"""Share of a group's width that its bars take."""


@dataclass(frozen=True)
class Group:
    """Bars side by side under one label: label of the series -> cell."""

    label: str
    bars: dict[str, Cell]


def draw_bars(title: str, filled: Filled) -> Figure:
    """Scores of all benchmarks: a panel for each block of rows."""
    shown = [j for j, c in enumerate(filled.layout.columns) if c.kind in ("score", "average")]
    blocks: dict[str, list[int]] = {}
    for i, row in enumerate(filled.layout.rows):
        blocks.setdefault(row.block, []).append(i)
    panels = []
    for members in blocks.values():
        groups = [
            Group(filled.layout.columns[j].label,
                  {series(filled.layout.rows[i]): filled.cells[i][j] for i in members})
            for j in shown
        ]  # fmt: skip
        panels.append((block_label([filled.layout.rows[i] for i in members]), groups))
    return _figure(title, filled.layout.rows, panels)


def draw_averages(title: str, filled: Filled, column: int) -> Figure:
    """One column over all models: a group for each."""
    names = {row.block: block_label([row]) for row in reversed(filled.layout.rows)}
    groups: dict[str, dict[str, Cell]] = {}
    for row, cells in filled.lines():
        groups.setdefault(names[row.block], {})[series(row)] = cells[column]
    label = filled.layout.columns[column].label
    return _figure(title, filled.layout.rows, [(label, [Group(b, c) for b, c in groups.items()])])


def draw_hours(title: str, filled: Filled, column: int) -> Figure:
    """Hours of training as horizontal bars, and how often they go into those of w/ full."""
    lines = [(row, cells[column]) for row, cells in filled.lines()]
    figure = new_figure(0.9 + BAR_ROW * len(lines))
    axes = figure.add_subplot()
    own = looks({series(row): row.kind.method for row, _ in lines}.items())
    places = range(len(lines))
    for place, (row, cell) in zip(places, lines, strict=True):
        look = own[series(row)]
        axes.barh(place, cell.value or 0.0, height=0.68, color=look.fill, hatch=look.hatch,
                  edgecolor=EDGE, linewidth=0.7, xerr=cell.std)  # fmt: skip
        if cell.printed is not None:
            _paper_mark(axes, cell.printed, place)
        end = max(cell.value or 0.0, cell.printed or 0.0) + (cell.std or 0.0)
        axes.annotate(_hours_text(cell, filled.layout.columns[column]), (end, place), (6, 0),
                      textcoords="offset points", va="center", fontsize=SMALL)  # fmt: skip
    axes.set_yticks(places, [row.label for row, _ in lines], fontsize=SMALL, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    axes.set_xlabel("hours of training (wall time)", fontsize=TEXT)
    plain_axes(axes, "x")
    if any(cell.printed is not None for _, cell in lines):
        _paper_legend(figure, [])
    figure.suptitle(title, fontsize=TITLE, x=0.01, ha="left", parse_math=False)
    return figure


def block_label(rows: Sequence[Row]) -> str:
    """What the labels of a block's rows have in common: the model, as the paper calls it."""
    name, comma, _ = rows[0].label.partition(", ")
    own = rows[0].block.removeprefix(rows[0].kind.model).strip()
    if not comma:
        return rows[0].block
    return f"{name}, {own}" if own and rows[0].label.startswith(f"{name}, {own}, ") else name


def series(row: Row) -> str:
    """A row's label without its model (and data, where rows have one)."""
    label = row.label.partition(", ")[2] or row.label
    own = row.block.removeprefix(row.kind.model).strip()
    return label.removeprefix(f"{own}, ") if own else label


def _figure(
    title: str, rows: Sequence[Row], panels: Sequence[tuple[str, Sequence[Group]]]
) -> Figure:
    from matplotlib.patches import Patch

    methods = {series(row): row.kind.method for row in rows}
    found = looks(methods.items())
    own = {label: found[label] for label in methods}
    figure = new_figure(0.5 + LEGEND + PANEL * len(panels))
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (name, groups) in zip(grid, panels, strict=True):
        _panel(axes, name, groups, own)
    handles = [
        Patch(facecolor=look.fill, hatch=look.hatch, edgecolor=EDGE, linewidth=0.7, label=label)
        for label, look in own.items()
    ]
    has_paper = any(c.printed is not None for _, gs in panels for g in gs for c in g.bars.values())
    if has_paper:
        _paper_legend(figure, handles)
    else:
        _legend(figure, handles)
    figure.suptitle(title, fontsize=TITLE, x=0.01, ha="left", parse_math=False)
    return figure


def _panel(axes: Axes, name: str, groups: Sequence[Group], own: dict[str, Look]) -> None:
    for g, group in enumerate(groups):
        labels = [label for label in own if label in group.bars]
        width = SPACE / max(1, len(labels))
        for k, label in enumerate(labels):
            cell, look = group.bars[label], own[label]
            place = g - SPACE / 2 + (k + 0.5) * width
            if cell.value is not None:
                axes.bar(place, cell.value, width=0.92 * width, color=look.fill, hatch=look.hatch,
                         edgecolor=EDGE, linewidth=0.7)  # fmt: skip
                _error(axes, place, cell)
            if cell.printed is not None:
                _paper_mark(axes, place, cell.printed)
    axes.set_xticks(range(len(groups)), [g.label for g in groups], fontsize=SMALL, parse_math=False)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylabel("score (%)", fontsize=TEXT)
    axes.set_ylim(0, max(axes.get_ylim()[1], LOWEST_TOP))
    axes.set_title(name, fontsize=TEXT, loc="left", parse_math=False)
    plain_axes(axes)
    axes.tick_params(axis="x", length=0)


def _error(axes: Axes, place: float, cell: Cell) -> None:
    """The interval over documents, else the standard deviation over seeds."""
    value = cell.value or 0.0
    if cell.interval is not None:
        ends = [[max(0.0, value - cell.interval.low)], [max(0.0, cell.interval.high - value)]]
    elif cell.std is not None:
        ends = [[cell.std], [cell.std]]
    else:
        return
    axes.errorbar(place, value, yerr=ends, fmt="none", ecolor=EDGE, elinewidth=0.9, capsize=1.8)


def _paper_mark(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, marker="D", markersize=4, markerfacecolor="white", markeredgecolor=PAPER,
              markeredgewidth=1.1, linestyle="none", zorder=4)  # fmt: skip


def _paper_legend(figure: Figure, handles: list) -> None:
    from matplotlib.lines import Line2D

    mark = Line2D([], [], marker="D", markersize=5, markerfacecolor="white", markeredgecolor=PAPER,
                  linestyle="none", label="the paper's number")  # fmt: skip
    _legend(figure, [*handles, mark])


def _legend(figure: Figure, handles: list) -> None:
    longest = max((len(h.get_label()) for h in handles), default=1)
    columns = max(1, min(len(handles), int(WIDTH / (LETTER * longest + HANDLE))))
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _hours_text(cell: Cell, column: Column) -> str:
    if cell.value is None:
        return "not run" if cell.printed is None else ""
    text = f"{number(cell.value, column)} h"
    if cell.from_full and cell.value:
        full = cell.value - cell.from_full.value
        text += f", {full / cell.value:.2f} x as fast as w/ full"
    return text
