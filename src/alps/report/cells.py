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
from alps.report.line import Line, draws_of, terms
from alps.report.resampling import Interval, interval
from alps.report.run_kind import BASE
from alps.report.state import Gap, Score, Subject, subjects

PERCENT, HOUR = 100.0, 3600.0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A cell less the one it is compared with, in the column's unit, over the seeds of both.

    Attributes:
        ours: Mean of the cell over these seeds.
        theirs: Mean of the other.
        seeds: Those that both have.
        partial: Whether one of them has further seeds.
        interval: Of the paired draws, or None where the documents of both are not known to be the
            same.
    """

    ours: float
    theirs: float
    seeds: tuple[int, ...]
    partial: bool = False
    interval: Interval | None = None

    @property
    def value(self) -> float:
        """This minus that."""
        return self.ours - self.theirs


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
        partial: Whether it has a value of some seeds only.
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
    partial: bool = False

    @property
    def unlike_random(self) -> bool:
        """Whether the difference to Random is more than the draw of documents explains."""
        sure = self.from_random.interval if self.from_random else None
        return sure is not None and sure.has_width and sure.excludes_zero


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
    gaps, values = _gaps(line, column, layout), _values(line, column, layout)
    if not values:
        return Cell(printed=printed, gaps=gaps)
    seeds, spread = tuple(values), list(values.values())
    return Cell(
        value=mean(spread),
        seeds=seeds,
        std=stdev(spread) if len(spread) > 1 else None,
        interval=_interval(line, seeds, column, layout),
        printed=printed,
        gaps=gaps,
        partial=bool(gaps),
    )


def _gaps(line: Line, column: Column, layout: Layout) -> tuple[Gap, ...]:
    """What is missing for a cell, each once."""
    if column.kind == "hours":
        return tuple(s.gap for s in line.all if s.gap)
    own = terms(line.row, column, layout)
    scores = [line.score(seed, term) for seed in line.seeds for term in own]
    return tuple(dict.fromkeys(s for s in scores if isinstance(s, Gap)))


def _values(line: Line, column: Column, layout: Layout) -> dict[int, float]:
    """Seed -> a cell's number in the column's unit, where nothing of it is missing."""
    if column.kind == "hours":
        return _hours(line)
    own = terms(line.row, column, layout)
    values: dict[int, float] = {}
    for seed in line.seeds:
        scores = [line.score(seed, term) for term in own]
        found = [s.value for s in scores if isinstance(s, Score)]
        if own and len(found) == len(own):
            total = sum(t.weight * v for t, v in zip(own, found, strict=True))
            values[seed] = _unit(column) * total
    return values


def _hours(line: Line) -> dict[int, float]:
    """Seed -> mean time of training over the row's data."""
    values: dict[int, float] = {}
    for seed in line.seeds:
        own = [line.subject(seed, data) for data in line.subjects]
        times = [s.result.train_seconds for s in own if s and s.result]
        known = [t for t in times if t is not None]
        if own and len(known) == len(own):
            values[seed] = mean(known) / HOUR
    return values


def _interval(line: Line, seeds: Sequence[int], column: Column, layout: Layout) -> Interval | None:
    if column.kind == "hours":
        return None
    own, unit = terms(line.row, column, layout), _unit(column)
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
    """Over the seeds that both have; that of a model as it is goes with every seed."""
    if other is None:
        return None
    ours, theirs = (_values(x, column, layout) for x in (line, other))
    if line.row.kind.method == BASE and ours:
        ours = dict.fromkeys(theirs, next(iter(ours.values())))
    seeds = tuple(s for s in ours if s in theirs)
    if not seeds:
        return None
    return Difference(
        ours=mean(ours[s] for s in seeds),
        theirs=mean(theirs[s] for s in seeds),
        seeds=seeds,
        partial=ours.keys() != theirs.keys(),
        interval=_paired(line, other, seeds, column, layout),
    )


def _paired(
    line: Line, other: Line, seeds: Sequence[int], column: Column, layout: Layout
) -> Interval | None:
    """Of the draws' differences, where both answered the same documents of each benchmark."""
    if column.kind == "hours":
        return None
    own, its = (terms(x.row, column, layout) for x in (line, other))
    pools: dict[str, set[str | None]] = {}
    for each, parts in ((line, own), (other, its)):
        for term in parts:
            pools.setdefault(term.benchmark, set()).update(each.pool(s, term) for s in seeds)
    if any(len(found) > 1 for found in pools.values()):
        return None
    first, second = draws_of(line, seeds, own), draws_of(other, seeds, its)
    if first is None or second is None:
        return None
    return interval(_unit(column) * (first - second))


def _as_change(cell: Cell) -> Cell:
    """The cell of the column of changes: the difference is its value."""
    change = cell.from_full
    return Cell(
        value=change.value if change else None,
        seeds=change.seeds if change else (),
        interval=change.interval if change else None,
        printed=cell.printed,
        gaps=cell.gaps,
        partial=change is not None and (cell.partial or change.partial),
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
