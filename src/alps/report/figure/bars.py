"""Bar charts of a table: a panel for each model, a group for each benchmark, a bar for each row.

They draw Figure 2 (methods on models and tasks), Figure 6 (transfer) and Table 11 (hours).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from alps.report.style import (
    EDGE,
    SMALL,
    TEXT,
    MethodStyle,
    error_bar,
    legend_below,
    new_figure,
    plot_paper_values,
    series_styles,
    style_axes,
)
from alps.report.table.cells import Cell, FilledTable
from alps.report.table.columns import AverageColumn, Column, ScoreColumn
from alps.report.table.layout import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, LEGEND, BAR_ROW = 2.1, 0.55, 0.3
"""Inches: height of a panel, of the legend, and of a horizontal bar."""

LOWEST_TOP = 5.0
"""Smallest upper end of an axis in percent, so that scores of zero show as zero."""

OWN_DATA, OTHER_DATA, OTHER_HATCH = " (Table 1's data)", " (other data)", ".."

SPACE = 0.8
"""Share of a group's width for its bars."""


@dataclass(frozen=True)
class BarGroup:
    """A group of bars under one label: label of the series -> cell."""

    label: str
    bars: dict[str, Cell]


def draw_bars(title: str, filled: FilledTable) -> Figure:
    """Scores of all benchmarks: a panel for each block of rows."""
    columns, rows = filled.layout.columns, filled.layout.rows
    shown = [j for j, c in enumerate(columns) if isinstance(c, ScoreColumn | AverageColumn)]
    panels, names = [], block_labels(rows)
    for block in dict.fromkeys(row.block for row in rows):
        members = [i for i, row in enumerate(rows) if row.block == block]
        groups = [
            BarGroup(columns[j].label, {series_label(rows[i]): filled.cells[i][j] for i in members})
            for j in shown
        ]
        panels.append((names[block], groups))
    return _figure(title, _row_styles(filled), panels)


def draw_averages(title: str, filled: FilledTable) -> Figure:
    """Averages over all benchmarks and over those of each task (Figure 2).

    A panel for each average with a group for each model; a single panel if there is one model.
    """
    filled = filled.with_columns(task_averages(filled))
    columns = filled.layout.columns
    shown = [j for j, c in enumerate(columns) if isinstance(c, AverageColumn)]
    names = block_labels(filled.layout.rows)
    groups: dict[int, dict[str, dict[str, Cell]]] = {j: {} for j in shown}
    for row, cells in filled.rows():
        for j in shown:
            groups[j].setdefault(names[row.block], {})[series_label(row)] = cells[j]
    if len(names) > 1:
        panels = [(columns[j].label, [BarGroup(*g) for g in groups[j].items()]) for j in shown]
    else:
        (name,) = names.values()
        panels = [(name, [BarGroup(columns[j].label, groups[j][name]) for j in shown])]
    return _figure(title, _row_styles(filled), panels)


def task_averages(filled: FilledTable) -> list[Column]:
    """An average for each dataset with runs and several benchmarks, labelled with its task."""
    tasks = _tasks(filled)
    scores = [c for c in filled.layout.columns if isinstance(c, ScoreColumn)]
    own = [c.data for c in scores if len(c.data) == 1 and c.data[0] in tasks]
    several = dict.fromkeys(data for data in own if own.count(data) > 1)
    return [AverageColumn(label=tasks[data[0]], data=data) for data in several]


def draw_transfer(title: str, filled: FilledTable, beside: FilledTable) -> Figure:
    """Figure 6: rows trained on other data (Table 4) beside the same rows of `beside` (Table 1)."""
    tables = [(OWN_DATA, *_by_task(beside)), (OTHER_DATA, *_by_task(filled))]
    rows = filled.layout.rows
    styles = {
        name + suffix: replace(style, hatch=style.hatch + hatch)
        for name, style in _row_styles(filled).items()
        for suffix, hatch in ((OWN_DATA, ""), (OTHER_DATA, OTHER_HATCH))
    }
    panels = []
    for block, name in block_labels(rows).items():
        kinds = {row.kind: series_label(row) for row in rows if row.block == block}
        groups: dict[str, dict[str, Cell]] = {task: {} for task in tables[1][2]}
        for suffix, table, columns in tables:
            for row, cells in table.rows():
                if row.kind in kinds and not row.variant:
                    for task in groups.keys() & columns.keys():
                        groups[task][kinds[row.kind] + suffix] = cells[columns[task]]
        panels.append((name, [BarGroup(task, bars) for task, bars in groups.items()]))
    return _figure(title, styles, panels)


def _by_task(filled: FilledTable) -> tuple[FilledTable, dict[str, int]]:
    """The table with averages by task, and the columns of the tasks and the overall average."""
    filled = filled.with_columns(task_averages(filled))
    tasks, found = _tasks(filled), {}
    for j, column in enumerate(filled.layout.columns):
        if isinstance(column, ScoreColumn | AverageColumn) and len(column.data) == 1:
            if column.data[0] in tasks:  # the paper's columns of other data have no runs here
                found[tasks[column.data[0]]] = j  # averages overwrite the scores before them
        elif isinstance(column, AverageColumn):
            found[column.label] = j
    overall = [label for label in found if label not in tasks.values()]
    ordered = [label for label in found if label not in overall] + overall
    return filled, {label: found[label] for label in ordered}


def _tasks(filled: FilledTable) -> dict[str, str]:
    """Dataset -> its task."""
    runs = [runs for row in filled.layout.rows for runs in row.runs.values()]
    return {run.data.name: run.data.task for each in runs for run in each}


def draw_hours(title: str, filled: FilledTable, column: int) -> Figure:
    """Hours of training as horizontal bars, with the speed-up over w/ full."""
    lines = [(row, cells[column]) for row, cells in filled.rows()]
    figure = new_figure(title, 0.9 + BAR_ROW * len(lines))
    axes = figure.add_subplot()
    styles = _row_styles(filled)
    places = range(len(lines))
    for place, (row, cell) in zip(places, lines, strict=True):
        style = styles[series_label(row)]
        axes.barh(place, cell.value or 0.0, height=0.68, color=style.color, hatch=style.hatch,
                  edgecolor=EDGE, linewidth=0.7, xerr=cell.std)  # fmt: skip
        if cell.printed is not None:
            plot_paper_values(axes, [cell.printed], [place])
        end = max(cell.value or 0.0, cell.printed or 0.0) + (cell.std or 0.0)
        axes.annotate(_hours_text(cell, filled.layout.columns[column]), (end, place), (6, 0),
                      textcoords="offset points", va="center", fontsize=SMALL)  # fmt: skip
    axes.set_yticks(places, [row.label for row, _ in lines], fontsize=SMALL, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    axes.set_xlabel("hours of training (wall time)", fontsize=TEXT)
    style_axes(axes, grid="x")
    legend_below(figure)
    return figure


def block_labels(rows: Sequence[Row]) -> dict[str, str]:
    """Block -> common prefix of its rows' labels: the model, under the paper's name for it."""
    return {row.block: _block_label(row) for row in reversed(rows)}


def series_label(row: Row) -> str:
    """A row's label without its model, and without its data where each row has one dataset."""
    label = row.label.partition(", ")[2] or row.label
    own = row.block.removeprefix(row.kind.model).strip()
    return label.removeprefix(f"{own}, ") if own else label


def _block_label(first: Row) -> str:
    name, comma, _ = first.label.partition(", ")
    own = first.block.removeprefix(first.kind.model).strip()
    if not comma:
        return first.block
    return f"{name}, {own}" if own and first.label.startswith(f"{name}, {own}, ") else name


def _row_styles(filled: FilledTable) -> dict[str, MethodStyle]:
    """A style for each series, in the order of the rows."""
    methods = {series_label(row): row.kind.method for row in filled.layout.rows}
    return series_styles(methods, filled.layout.styles)


def _figure(
    title: str, styles: Mapping[str, MethodStyle], panels: Sequence[tuple[str, Sequence[BarGroup]]]
) -> Figure:
    """Panels below each other with one legend of all series."""
    from matplotlib.patches import Patch

    figure = new_figure(title, 0.5 + LEGEND + PANEL * len(panels))
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (name, groups) in zip(grid, panels, strict=True):
        _panel(axes, name, groups, styles)
    handles = [
        Patch(facecolor=style.color, hatch=style.hatch, edgecolor=EDGE, linewidth=0.7, label=label)
        for label, style in styles.items()
    ]
    legend_below(figure, handles)
    return figure


def _panel(
    axes: Axes, name: str, groups: Sequence[BarGroup], styles: Mapping[str, MethodStyle]
) -> None:
    for g, group in enumerate(groups):
        labels = [label for label in styles if label in group.bars]
        width = SPACE / max(1, len(labels))
        for k, label in enumerate(labels):
            cell, style = group.bars[label], styles[label]
            place = g - SPACE / 2 + (k + 0.5) * width
            if cell.value is not None:
                axes.bar(place, cell.value, 0.92 * width, color=style.color, hatch=style.hatch,
                         edgecolor=EDGE, linewidth=0.7)  # fmt: skip
                _error(axes, place, cell)
            if cell.printed is not None:
                plot_paper_values(axes, [place], [cell.printed])
    axes.set_xticks(range(len(groups)), [g.label for g in groups], fontsize=SMALL, parse_math=False)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylabel("score (%)", fontsize=TEXT)
    axes.set_ylim(0, max(axes.get_ylim()[1], LOWEST_TOP))
    style_axes(axes, name)
    axes.tick_params(axis="x", length=0)


def _error(axes: Axes, place: float, cell: Cell) -> None:
    """Draws the interval over documents, or else the standard deviation over seeds."""
    value = cell.value or 0.0
    if cell.interval is not None:
        below, above = error_bar(value, cell.interval)
    elif cell.std is not None:
        below = above = cell.std
    else:
        return
    axes.errorbar(place, value, yerr=[[below], [above]], fmt="none", ecolor=EDGE, elinewidth=0.9,
                  capsize=1.8)  # fmt: skip


def _hours_text(cell: Cell, column: Column) -> str:
    if cell.value is None:
        return "not run" if cell.printed is None else ""
    text = f"{column.text(cell.value)} h"
    if cell.from_full and cell.from_full.ours:
        text += f", {cell.from_full.theirs / cell.from_full.ours:.2f} x as fast as w/ full"
    return text
