"""The cells of a table: means over seeds, intervals, differences, the best, and missing runs.

Intervals are those of `alps.evals.statistics`; differences are paired by seed and document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import mean, stdev
from typing import Literal

from alps.evals.statistics import Interval
from alps.report.outcomes import MissingScore, OutcomeReader, RunOutcome, Score, outcome_reader
from alps.report.run_kind import BASE
from alps.report.table.columns import ChangeColumn, Column
from alps.report.table.comparison import Correction, Difference, differences
from alps.report.table.layout import Layout, Row
from alps.report.table.row_outcomes import RowOutcomes, scaled_variance_components


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell; values in the unit of its column.

    Attributes:
        value: Mean over seeds, or None.
        seeds: Those that have a value.
        std: Standard deviation over several seeds.
        interval: 95 % over documents, and over seeds where there are several; or None.
        from_full: Difference to the row w/ full of the block.
        from_random: Difference to the row Random of the block.
        best: Whether no trained row of the block is better.
        printed: The paper's number, or None.
        gaps: Missing scores.
        partial: Whether only some of its seeds have a value.
        unlike_random: What differs significantly from Random: two trained `models` on these
            documents with one seed, `methods` with several, or nothing.
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
    """A table with its values.

    Attributes:
        layout: Its rows and columns.
        cells: One tuple for each row.
        sources: The outcomes of each row's runs.
        correction: For the number of comparisons.
    """

    layout: Layout
    cells: tuple[tuple[Cell, ...], ...]
    sources: tuple[RowOutcomes, ...] = field(repr=False)
    correction: Correction = "none"

    @cached_property
    def outcomes(self) -> tuple[tuple[RunOutcome, ...], ...]:
        """For each row, the outcomes of its runs, each once."""
        return tuple(tuple(dict.fromkeys(source.all)) for source in self.sources)

    def with_columns(self, columns: Sequence[Column]) -> FilledTable:
        """The table with these columns appended."""
        layout = replace(self.layout, columns=(*self.layout.columns, *columns))
        return _filled(layout, self.sources, self.correction)

    def rows(self) -> Iterator[tuple[Row, tuple[Cell, ...]]]:
        """Rows with their cells."""
        return zip(self.layout.rows, self.cells, strict=True)

    @cached_property
    def shares(self) -> list[tuple[float, float] | None]:
        """For each row, the smallest and the largest share of Q/K/V that trains in its runs."""
        return [_share(outcomes) for outcomes in self.outcomes]

    def without_empty(self, method: str) -> FilledTable:
        """Without the rows of a method that have no value, unless a file cannot be read."""
        kept = [
            i
            for i, (row, cells) in enumerate(self.rows())
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
        """All missing scores, each run and reason once."""
        return list(dict.fromkeys(g for row in self.cells for cell in row for g in cell.gaps))


def fill_table(
    layout: Layout, read: OutcomeReader | None = None, correction: Correction = "none"
) -> FilledTable:
    """Reads the outcomes of all runs and computes every cell.

    Args:
        layout: Of the table.
        read: Reads an outcome; by default from the run's folder.
        correction: Applied to the comparisons with Random.
    """
    read = read or outcome_reader()
    sources = tuple(
        RowOutcomes(row, {d: tuple(read(row, run) for run in runs) for d, runs in row.runs.items()})
        for row in layout.rows
    )
    return _filled(layout, sources, correction)


def _filled(layout: Layout, sources: Sequence[RowOutcomes], correction: Correction) -> FilledTable:
    cells = [[_cell(source, column, layout) for column in layout.columns] for source in sources]
    from_full, from_random = (differences(sources, name, layout) for name in ("full", "random"))
    for i, row in enumerate(cells):
        for j, column in enumerate(layout.columns):
            cell = replace(row[j], from_full=from_full[i][j], from_random=from_random[i][j])
            change = isinstance(column, ChangeColumn)
            row[j] = _change_cell(cell) if change else _marked(cell, correction)
    for j, column in enumerate(layout.columns):
        _mark_best(layout.rows, column, cells, j)
    return FilledTable(
        layout=layout,
        cells=tuple(map(tuple, cells)),
        sources=tuple(sources),
        correction=correction,
    )


def _cell(source: RowOutcomes, column: Column, layout: Layout) -> Cell:
    printed = column.printed(source.row, layout)
    gaps = column.missing(source, layout.columns)
    values = column.values(source, layout.columns)
    if not values:
        return Cell(printed=printed, gaps=gaps)
    return Cell(
        value=mean(values.values()),
        seeds=tuple(values),
        std=stdev(values.values()) if len(values) > 1 else None,
        interval=_interval(source, values, column, layout),
        printed=printed,
        gaps=gaps,
        partial=bool(gaps),
    )


def _interval(
    source: RowOutcomes, values: Mapping[int, float], column: Column, layout: Layout
) -> Interval | None:
    parts = column.weighted_scores(source.row, layout.columns)
    if not parts:
        return None
    if len(parts) == len(values) == 1:  # the evaluation's own interval
        score = source.score(next(iter(values)), parts[0])
        found = score.interval if isinstance(score, Score) else None
        return Interval(*(column.scale * end for end in found)) if found else None
    found = [source.cell_deviations(seed, parts) for seed in values]
    variance = scaled_variance_components(list(values.values()), found, column.scale)
    if variance is None:
        return None
    low, high = variance.interval(mean(values.values()))
    return Interval(max(low, 0.0), min(high, column.upper_bound))


def _share(outcomes: Sequence[RunOutcome]) -> tuple[float, float] | None:
    results = [o.result for o in outcomes if o.result and not o.base]
    found = [r.qkv_fraction for r in results if r.qkv_fraction is not None]
    return (min(found), max(found)) if found else None


def _marked(cell: Cell, correction: Correction) -> Cell:
    found = cell.from_random
    return replace(cell, unlike_random=found.significance(correction)) if found else cell


def _change_cell(cell: Cell) -> Cell:
    """A cell of the column of changes: its value is the difference to w/ full."""
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


def _mark_best(rows: Sequence[Row], column: Column, cells: list[list[Cell]], j: int) -> None:
    """Marks the best trained rows of each block, where rows differ."""
    blocks: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.kind.method != BASE and cells[i][j].value is not None:
            blocks.setdefault(row.block, []).append(i)
    for members in blocks.values():
        values = [cells[i][j].value or 0.0 for i in members]
        best = column.best(values)
        for i, value in zip(members, values, strict=True):
            if value == best and len(set(values)) > 1:
                cells[i][j] = replace(cells[i][j], best=True)
