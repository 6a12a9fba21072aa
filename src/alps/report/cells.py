"""The numbers of a table: means over seeds, intervals, differences, the best, and what is missing.

A cell is a weighted mean of terms, one for each dataset and benchmark that it is about. Intervals
come from draws of documents (`resampling`); those of differences are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev

from alps.report.columns import Column
from alps.report.layout import Layout, Row
from alps.report.line import Line, Term, draws_of, terms
from alps.report.resampling import Interval, interval
from alps.report.run_kind import BASE
from alps.report.state import Gap, Score, Subject, subjects

PERCENT, HOUR = 100.0, 3600.0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A cell less the one it is compared with, in the column's unit.

    Attributes:
        value: This minus that.
        interval: Of the paired draws, or None where documents are not known of both.
    """

    value: float
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a cell shows; numbers in percent, hours or nats.

    Attributes:
        value: Mean over seeds, or None.
        seeds: Those it is the mean of.
        std: Standard deviation over several seeds.
        interval: 95 % over documents, or None.
        from_full: Difference to the row w/ full of the block.
        from_random: Difference to the row Random of the block.
        best: Whether no trained row of the block is better.
        printed: The paper's number, or None.
        gaps: What is missing.
    """

    value: float | None = None
    seeds: tuple[int, ...] = ()
    std: float | None = None
    interval: Interval | None = None
    from_full: Difference | None = None
    from_random: Difference | None = None
    best: bool = False
    printed: float | None = None
    gaps: tuple[Gap, ...] = ()

    @property
    def unlike_random(self) -> bool:
        """Whether the difference to Random is more than the draw of documents explains."""
        sure = self.from_random.interval if self.from_random else None
        return sure is not None and sure.excludes_zero


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A table with its numbers.

    Attributes:
        layout: Its shape.
        cells: One tuple for each row.
        subjects: For each row, every run that belongs to it.
    """

    layout: Layout
    cells: tuple[tuple[Cell, ...], ...]
    subjects: tuple[tuple[Subject, ...], ...] = field(repr=False)

    def lines(self) -> Iterator[tuple[Row, tuple[Cell, ...]]]:
        """Rows with their cells."""
        return zip(self.layout.rows, self.cells, strict=True)

    @property
    def gaps(self) -> list[Gap]:
        """Everything that is missing, each run and reason once."""
        return list(dict.fromkeys(g for row in self.cells for cell in row for g in cell.gaps))


def fill(layout: Layout) -> Filled:
    """Reads the files of all runs and computes every cell.

    Args:
        layout: Of the table.
    """
    read = subjects()
    lines = [
        Line(row, {d: tuple(read(r, row.kind.method == BASE) for r in rs) for d, rs in runs})
        for row in layout.rows
        for runs in [row.runs.items()]
    ]
    cells = [[_cell(line, column, layout) for column in layout.columns] for line in lines]
    for i, line in enumerate(lines):
        full, random = (_reference(line, lines, method) for method in ("full", "random"))
        for j, column in enumerate(layout.columns):
            cell = replace(cells[i][j], from_full=_difference(line, full, column, layout))
            cell = replace(cell, from_random=_difference(line, random, column, layout))
            cells[i][j] = _as_change(cell) if column.kind == "change" else cell
    for j, column in enumerate(layout.columns):
        _mark_best(lines, column, cells, j)
    return Filled(
        layout=layout,
        cells=tuple(map(tuple, cells)),
        subjects=tuple(tuple(dict.fromkeys(line.all)) for line in lines),
    )


def _cell(line: Line, column: Column, layout: Layout) -> Cell:
    printed = layout.printed.get((line.row.label, column.label))
    if column.kind == "hours":
        return replace(_hours(line), printed=printed)
    own = terms(line.row, column, layout)
    gaps: dict[Gap, None] = {}
    values: dict[int, float] = {}
    for seed in line.seeds:
        scores = [line.score(seed, term) for term in own]
        gaps |= dict.fromkeys(s for s in scores if isinstance(s, Gap))
        found = [s.value for s in scores if isinstance(s, Score)]
        if own and len(found) == len(own):
            values[seed] = sum(t.weight * v for t, v in zip(own, found, strict=True))
    if not values:
        return Cell(printed=printed, gaps=tuple(gaps))
    unit, seeds = _unit(column), tuple(values)
    spread = [unit * v for v in values.values()]
    return Cell(
        value=mean(spread),
        seeds=seeds,
        std=stdev(spread) if len(spread) > 1 else None,
        interval=_interval(line, seeds, own, unit),
        printed=printed,
        gaps=tuple(gaps),
    )


def _hours(line: Line) -> Cell:
    """Mean time of training over the row's data."""
    gaps = [s.gap for s in line.all if s.gap]
    values: dict[int, float] = {}
    for seed in line.seeds:
        own = [line.subject(seed, data) for data in line.subjects]
        times = [s.result.train_seconds for s in own if s and s.result]
        known = [t for t in times if t is not None]
        if own and len(known) == len(own):
            values[seed] = mean(known) / HOUR
    if not values:
        return Cell(gaps=tuple(gaps))
    spread = list(values.values())
    std = stdev(spread) if len(spread) > 1 else None
    return Cell(value=mean(spread), seeds=tuple(values), std=std, gaps=tuple(gaps))


def _interval(
    line: Line, seeds: Sequence[int], own: Sequence[Term], unit: float
) -> Interval | None:
    draws = draws_of(line, seeds, own)
    if draws is not None:
        return interval(unit * draws)
    only = line.score(seeds[0], own[0]) if len(own) == len(seeds) == 1 else None
    if isinstance(only, Score) and only.low is not None and only.high is not None:
        return Interval(unit * only.low, unit * only.high)  # as the evaluation computed it
    return None


def _reference(line: Line, lines: Sequence[Line], method: str) -> Line | None:
    """The row of a method to compare with: of the same block, with as many heads, and alike."""
    row = line.row
    found = [
        other
        for other in lines
        if other.row.block == row.block
        and other.row.kind.method == method
        and (
            None in (other.row.kind.ratio, row.kind.ratio) or other.row.kind.ratio == row.kind.ratio
        )
    ]
    alike = [other for other in found if other.row.variant == row.variant] or found
    return alike[0] if len(alike) == 1 and alike[0] is not line else None


def _difference(
    line: Line, other: Line | None, column: Column, layout: Layout
) -> Difference | None:
    if other is None:
        return None
    ours, theirs = (
        _hours(x) if column.kind == "hours" else _cell(x, column, layout) for x in (line, other)
    )
    if ours.value is None or theirs.value is None:
        return None
    sure = None
    if column.kind != "hours":
        own, its = (terms(x.row, column, layout) for x in (line, other))
        first, second = draws_of(line, ours.seeds, own), draws_of(other, theirs.seeds, its)
        if first is not None and second is not None:
            sure = interval(_unit(column) * (first - second))
    return Difference(value=ours.value - theirs.value, interval=sure)


def _as_change(cell: Cell) -> Cell:
    """The cell of the column of changes: the difference is its value."""
    change = cell.from_full
    return Cell(
        value=change.value if change else None,
        seeds=cell.seeds if change else (),
        interval=change.interval if change else None,
        printed=cell.printed,
        gaps=cell.gaps,
    )


def _mark_best(lines: Sequence[Line], column: Column, cells: list[list[Cell]], j: int) -> None:
    """Marks the best trained rows of each block, where one differs from another."""
    if column.kind == "change":
        return
    blocks: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        if line.row.kind.method != BASE and cells[i][j].value is not None:
            blocks.setdefault(line.row.block, []).append(i)
    for members in blocks.values():
        values = [cells[i][j].value or 0.0 for i in members]
        top = min(values) if column.lower_is_better else max(values)
        for i, value in zip(members, values, strict=True):
            if value == top and len(set(values)) > 1:
                cells[i][j] = replace(cells[i][j], best=True)


def _unit(column: Column) -> float:
    return 1.0 if column.kind == "loss" else PERCENT
