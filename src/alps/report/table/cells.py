"""The numbers of a table: means over seeds, intervals, differences, the best, and what is missing.

A cell is a weighted mean of terms, one for each dataset and benchmark that it is about. Intervals
are those of `alps.evals.statistics`; differences are paired by seed and document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import mean, stdev
from typing import Literal

from alps.evals.statistics import Interval, uncertainty
from alps.report.outcomes import MissingScore, OutcomeReader, RunOutcome, Score, read_outcomes
from alps.report.run_kind import BASE
from alps.report.table.aggregate import Line, Term, deviations_of, spread, terms, unit, values
from alps.report.table.columns import Column
from alps.report.table.comparison import Correction, Difference, differences
from alps.report.table.layout import Layout, Row


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a cell shows; numbers in percent, hours or nats.

    Attributes:
        value: Mean over seeds, or None.
        seeds: Those it is the mean of.
        std: Standard deviation over several seeds.
        interval: 95 % over documents, and over seeds where there are several; or None.
        from_full: Difference to the row w/ full of the block.
        from_random: Difference to the row Random of the block.
        best: Whether no trained row of the block is better.
        printed: The paper's number, or None.
        gaps: What is missing.
        partial: Whether it has a value of some seeds only.
        unlike_random: What the difference to Random tells apart: two trained `models` on these
            documents if it is of one seed, `methods` if it is of several, or nothing.
    """

    value: float | None = None
    seeds: tuple[int, ...] = ()
    std: float | None = None
    interval: Interval | None = None
    from_full: Difference | None = None
    from_random: Difference | None = None
    best: bool = False
    printed: float | None = None
    gaps: tuple[MissingScore, ...] = ()
    partial: bool = False

    unlike_random: Literal["", "models", "methods"] = ""


@dataclass(frozen=True, kw_only=True)
class FilledTable:
    """A table with its numbers.

    Attributes:
        layout: Its shape.
        cells: One tuple for each row.
        sources: For each row, what its cells are computed from.
        correction: For the number of comparisons.
    """

    layout: Layout
    cells: tuple[tuple[Cell, ...], ...]
    sources: tuple[Line, ...] = field(repr=False)
    correction: Correction = "none"

    @cached_property
    def subjects(self) -> tuple[tuple[RunOutcome, ...], ...]:
        """For each row, every run that belongs to it."""
        return tuple(tuple(dict.fromkeys(line.all)) for line in self.sources)

    def with_columns(self, columns: Sequence[Column]) -> FilledTable:
        """The same rows with these columns more, right of all others."""
        layout = replace(self.layout, columns=(*self.layout.columns, *columns))
        return _filled(layout, self.sources, self.correction)

    def lines(self) -> Iterator[tuple[Row, tuple[Cell, ...]]]:
        """Rows with their cells."""
        return zip(self.layout.rows, self.cells, strict=True)

    @property
    def shares(self) -> list[tuple[float, float] | None]:
        """For each row, the least and the largest share of Q/K/V that trains in its runs."""
        return [_share(subjects) for subjects in self.subjects]

    def without_empty(self, method: str) -> FilledTable:
        """Without the rows of a method that have no number, unless a file cannot be read."""
        kept = [
            i
            for i, (row, cells) in enumerate(self.lines())
            if row.kind.method != method
            or any(
                c.value is not None or any(g.trouble == "unreadable" for g in c.gaps) for c in cells
            )
        ]
        return replace(
            self,
            layout=replace(self.layout, rows=tuple(self.layout.rows[i] for i in kept)),
            cells=tuple(self.cells[i] for i in kept),
            sources=tuple(self.sources[i] for i in kept),
        )

    @property
    def gaps(self) -> list[MissingScore]:
        """Everything that is missing, each run and reason once."""
        return list(dict.fromkeys(g for row in self.cells for cell in row for g in cell.gaps))


def fill(
    layout: Layout, read: OutcomeReader | None = None, correction: Correction = "none"
) -> FilledTable:
    """Reads what came of all runs and computes every cell.

    Args:
        layout: Of the table.
        read: Reads the runs; by default from their folders.
        correction: Applied to the comparisons with Random.
    """
    read = read or read_outcomes()
    lines = tuple(
        Line(row, {d: tuple(read(row, run) for run in runs) for d, runs in row.runs.items()})
        for row in layout.rows
    )
    return _filled(layout, lines, correction)


def _filled(layout: Layout, lines: Sequence[Line], correction: Correction) -> FilledTable:
    cells = [[_cell(line, column, layout) for column in layout.columns] for line in lines]
    from_full, from_random = (differences(lines, name, layout) for name in ("full", "random"))
    for i, row in enumerate(cells):
        for j, column in enumerate(layout.columns):
            cell = replace(row[j], from_full=from_full[i][j], from_random=from_random[i][j])
            row[j] = _as_change(cell) if column.kind == "change" else _marked(cell, correction)
    for j, column in enumerate(layout.columns):
        _mark_best(lines, column, cells, j)
    return FilledTable(
        layout=layout,
        cells=tuple(map(tuple, cells)),
        sources=tuple(lines),
        correction=correction,
    )


def _cell(line: Line, column: Column, layout: Layout) -> Cell:
    printed = _printed(line.row, column, layout)
    gaps, each = _gaps(line, column, layout), values(line, column, layout)
    if not each:
        return Cell(printed=printed, gaps=gaps)
    return Cell(
        value=mean(each.values()),
        seeds=tuple(each),
        std=stdev(each.values()) if len(each) > 1 else None,
        interval=_interval(line, each, column, layout),
        printed=printed,
        gaps=gaps,
        partial=bool(gaps),
    )


def _printed(row: Row, column: Column, layout: Layout) -> float | None:
    """The paper's number; of an average that it does not print, that of its scores."""
    found = layout.printed.get((row.label, column.label))
    if found is not None or not (column.kind == "average" and column.data):
        return found
    own = [c for c in layout.columns if c.kind == "score" and c.data == column.data]
    places = [(row.label, c.label) for c in own]
    known = [layout.printed[place] for place in places if place in layout.printed]
    return mean(known) if len(known) == len(own) else None


def _gaps(line: Line, column: Column, layout: Layout) -> tuple[MissingScore, ...]:
    """What is missing for a cell, each once."""
    if column.kind == "hours":
        return tuple(s.gap for s in line.all if s.gap)
    own = terms(line.row, column, layout)
    scores = [line.score(seed, term) for seed in line.seeds for term in own]
    return tuple(dict.fromkeys(s for s in scores if isinstance(s, MissingScore)))


def _interval(
    line: Line, each: Mapping[int, float], column: Column, layout: Layout
) -> Interval | None:
    if column.kind == "hours":
        return None
    own = terms(line.row, column, layout)
    if len(own) == len(each) == 1:
        return _of_one(line, next(iter(each)), own[0], unit(column))
    found = [deviations_of(line, seed, own) for seed in each]
    found_spread = spread(list(each.values()), found, unit(column))
    if found_spread is None:
        return None
    low, high = found_spread.interval(mean(each.values()))
    return Interval(max(low, 0.0), high if column.kind == "loss" else min(high, unit(column)))


def _of_one(line: Line, seed: int, term: Term, scale: float) -> Interval | None:
    """That of one benchmark of one model, which its evaluation has too."""
    score = line.score(seed, term)
    if not isinstance(score, Score):
        return None
    low, high = score.low, score.high
    if score.documents:
        sure = uncertainty(*score.documents.parts, groups=score.documents.groups)
        low, high = (sure.low, sure.high) if sure else (None, None)
    return None if low is None or high is None else Interval(scale * low, scale * high)


def _share(subjects: Sequence[RunOutcome]) -> tuple[float, float] | None:
    results = [s.result for s in subjects if s.result and not s.base]
    found = [r.qkv_fraction for r in results if r.qkv_fraction is not None]
    return (min(found), max(found)) if found else None


def _marked(cell: Cell, correction: Correction) -> Cell:
    found = cell.from_random
    return replace(cell, unlike_random=found.tells_apart(correction)) if found else cell


def _as_change(cell: Cell) -> Cell:
    """The cell of the column of changes: the difference is its value."""
    change = cell.from_full
    return Cell(
        value=change.value if change else None,
        seeds=change.seeds if change else (),
        interval=change.interval if change else None,
        from_full=change,
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
