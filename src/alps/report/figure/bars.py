"""Bars of a table: a panel for each model, a group for each benchmark, a bar for each row.

Figure 2 (methods on models and tasks), Figure 6 (transfer) and Table 11 (hours) are of this sort.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from alps.report.style import (
    EDGE,
    SMALL,
    TEXT,
    Look,
    legend_below,
    looks,
    new_figure,
    plain_axes,
    plot_paper,
    reach,
)
from alps.report.table.cell_text import number
from alps.report.table.cells import Cell, FilledTable
from alps.report.table.columns import Column
from alps.report.table.layout import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, LEGEND, BAR_ROW = 2.1, 0.55, 0.3
"""Inches: height of a panel, of the legend, and of a horizontal bar."""

LOWEST_TOP = 5.0
"""Percent that an axis goes up to at least: scores of zero show as zero."""

OWN_DATA, OTHER_DATA, OTHER_HATCH = " (Table 1's data)", " (other data)", ".."

SPACE = 0.8
"""Share of a group's width that its bars take."""


@dataclass(frozen=True)
class Group:
    """Bars side by side under one label: label of the series -> cell."""

    label: str
    bars: dict[str, Cell]


def draw_bars(title: str, filled: FilledTable) -> Figure:
    """Scores of all benchmarks: a panel for each block of rows."""
    shown = [j for j, c in enumerate(filled.layout.columns) if c.kind in ("score", "average")]
    blocks: dict[str, list[int]] = {}
    for i, row in enumerate(filled.layout.rows):
        blocks.setdefault(row.block, []).append(i)
    panels, names = [], block_labels(filled.layout.rows)
    for block, members in blocks.items():
        groups = [
            Group(filled.layout.columns[j].label,
                  {series(filled.layout.rows[i]): filled.cells[i][j] for i in members})
            for j in shown
        ]  # fmt: skip
        panels.append((names[block], groups))
    return _figure(title, _looks(filled.layout.rows), panels)


def draw_averages(title: str, filled: FilledTable) -> Figure:
    """Averages over all benchmarks and over those of each task (Figure 2).

    A panel for each average, with a group for each model; of one model a single panel.
    """
    filled = filled.with_columns(task_averages(filled))
    columns = filled.layout.columns
    shown = [j for j, c in enumerate(columns) if c.kind == "average"]
    names = block_labels(filled.layout.rows)
    groups: dict[int, dict[str, dict[str, Cell]]] = {j: {} for j in shown}
    for row, cells in filled.lines():
        for j in shown:
            groups[j].setdefault(names[row.block], {})[series(row)] = cells[j]
    if len(names) > 1:
        panels = [(columns[j].label, [Group(*g) for g in groups[j].items()]) for j in shown]
    else:
        (name,) = names.values()
        panels = [(name, [Group(columns[j].label, groups[j][name]) for j in shown])]
    return _figure(title, _looks(filled.layout.rows), panels)


def task_averages(filled: FilledTable) -> list[Column]:
    """An average for each dataset with runs and several benchmarks, by the name of its task."""
    own = [c.data for c in filled.layout.columns if c.kind == "score" and len(c.data) == 1]
    tasks = _tasks(filled)
    own = [data for data in own if data[0] in tasks]
    several = dict.fromkeys(data for data in own if own.count(data) > 1)
    return [Column(label=tasks[data[0]], kind="average", data=data) for data in several]


def draw_transfer(title: str, filled: FilledTable, beside: FilledTable) -> Figure:
    """Figure 6: rows trained on other data of the tasks, each beside its own row of Table 1.

    Args:
        title: First line.
        filled: The table of transfer (Table 4).
        beside: The table of the rows' own data (Table 1).
    """
    tables = [(OWN_DATA, *_by_task(beside)), (OTHER_DATA, *_by_task(filled))]
    rows = filled.layout.rows
    shown = {
        name + whose: replace(look, hatch=look.hatch + more)
        for name, look in _looks(rows).items()
        for whose, more in ((OWN_DATA, ""), (OTHER_DATA, OTHER_HATCH))
    }
    panels = []
    for block, name in block_labels(rows).items():
        kinds = {row.kind: series(row) for row in rows if row.block == block}
        groups: dict[str, dict[str, Cell]] = {task: {} for task in tables[1][2]}
        for whose, table, columns in tables:
            for row, cells in table.lines():
                if row.kind in kinds and not row.variant:
                    for task in groups.keys() & columns.keys():
                        groups[task][kinds[row.kind] + whose] = cells[columns[task]]
        panels.append((name, [Group(task, bars) for task, bars in groups.items()]))
    return _figure(title, shown, panels)


def _by_task(filled: FilledTable) -> tuple[FilledTable, dict[str, int]]:
    """The table with averages by task, and the column of each task and of the whole average."""
    filled = filled.with_columns(task_averages(filled))
    tasks, found = _tasks(filled), {}
    for j, column in enumerate(filled.layout.columns):
        if column.kind in ("score", "average") and len(column.data) == 1:
            if column.data[0] in tasks:  # the paper's columns of other data have no runs here
                found[tasks[column.data[0]]] = j  # averages come behind the scores
        elif column.kind == "average":
            found[column.label] = j
    whole = {label: j for label, j in found.items() if label not in tasks.values()}
    return filled, {**{t: found[t] for t in found if t not in whole}, **whole}


def _tasks(filled: FilledTable) -> dict[str, str]:
    """Data -> its task."""
    runs = [runs for row in filled.layout.rows for runs in row.runs.values()]
    return {run.data.name: run.data.task for each in runs for run in each}


def draw_hours(title: str, filled: FilledTable, column: int) -> Figure:
    """Hours of training as horizontal bars, and how often they go into those of w/ full."""
    lines = [(row, cells[column]) for row, cells in filled.lines()]
    figure = new_figure(title, 0.9 + BAR_ROW * len(lines))
    axes = figure.add_subplot()
    own = looks({series(row): row.kind.method for row, _ in lines}.items())
    places = range(len(lines))
    for place, (row, cell) in zip(places, lines, strict=True):
        look = own[series(row)]
        axes.barh(place, cell.value or 0.0, height=0.68, color=look.fill, hatch=look.hatch,
                  edgecolor=EDGE, linewidth=0.7, xerr=cell.std)  # fmt: skip
        if cell.printed is not None:
            plot_paper(axes, [cell.printed], [place])
        end = max(cell.value or 0.0, cell.printed or 0.0) + (cell.std or 0.0)
        axes.annotate(_hours_text(cell, filled.layout.columns[column]), (end, place), (6, 0),
                      textcoords="offset points", va="center", fontsize=SMALL)  # fmt: skip
    axes.set_yticks(places, [row.label for row, _ in lines], fontsize=SMALL, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    axes.set_xlabel("hours of training (wall time)", fontsize=TEXT)
    plain_axes(axes, grid="x")
    legend_below(figure)
    return figure


def block_labels(rows: Sequence[Row]) -> dict[str, str]:
    """Block -> what its rows' labels have in common: the model, as the paper calls it."""
    return {row.block: _block_label(row) for row in reversed(rows)}


def series(row: Row) -> str:
    """A row's label without its model (and data, where rows have one)."""
    label = row.label.partition(", ")[2] or row.label
    own = row.block.removeprefix(row.kind.model).strip()
    return label.removeprefix(f"{own}, ") if own else label


def _block_label(first: Row) -> str:
    name, comma, _ = first.label.partition(", ")
    own = first.block.removeprefix(first.kind.model).strip()
    if not comma:
        return first.block
    return f"{name}, {own}" if own and first.label.startswith(f"{name}, {own}, ") else name


def _looks(rows: Sequence[Row]) -> dict[str, Look]:
    """A look for each series, in the order of the rows."""
    methods = {series(row): row.kind.method for row in rows}
    found = looks(methods.items())
    return {label: found[label] for label in methods}


def _figure(
    title: str, own: Mapping[str, Look], panels: Sequence[tuple[str, Sequence[Group]]]
) -> Figure:
    """Panels below each other, with one legend of the series and their looks."""
    from matplotlib.patches import Patch

    figure = new_figure(title, 0.5 + LEGEND + PANEL * len(panels))
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (name, groups) in zip(grid, panels, strict=True):
        _panel(axes, name, groups, own)
    handles = [
        Patch(facecolor=look.fill, hatch=look.hatch, edgecolor=EDGE, linewidth=0.7, label=label)
        for label, look in own.items()
    ]
    legend_below(figure, handles)
    return figure


def _panel(axes: Axes, name: str, groups: Sequence[Group], own: Mapping[str, Look]) -> None:
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
                plot_paper(axes, [place], [cell.printed])
    axes.set_xticks(range(len(groups)), [g.label for g in groups], fontsize=SMALL, parse_math=False)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylabel("score (%)", fontsize=TEXT)
    axes.set_ylim(0, max(axes.get_ylim()[1], LOWEST_TOP))
    plain_axes(axes, name)
    axes.tick_params(axis="x", length=0)


def _error(axes: Axes, place: float, cell: Cell) -> None:
    """The interval over documents, else the standard deviation over seeds."""
    value = cell.value or 0.0
    if cell.interval is not None:
        below, above = reach(value, cell.interval)
    elif cell.std is not None:
        below = above = cell.std
    else:
        return
    axes.errorbar(place, value, yerr=[[below], [above]], fmt="none", ecolor=EDGE, elinewidth=0.9,
                  capsize=1.8)  # fmt: skip


def _hours_text(cell: Cell, column: Column) -> str:
    if cell.value is None:
        return "not run" if cell.printed is None else ""
    text = f"{number(cell.value, column)} h"
    if cell.from_full and cell.from_full.ours:
        text += f", {cell.from_full.theirs / cell.from_full.ours:.2f} x as fast as w/ full"
    return text
