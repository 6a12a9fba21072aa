"""The kinds of columns: which scores each averages, in which unit, and how its numbers are written.

A cell shows a weighted mean of scores, one for each dataset and benchmark of its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import mean
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from alps.report.outcomes import MissingScore, Score

if TYPE_CHECKING:
    from alps.report.table.cells import Cell
    from alps.report.table.layout import Layout, Row
    from alps.report.table.row_outcomes import RowOutcomes

HOUR = 3600.0
MINUS, TO = "−", "–"


class WeightedScore(NamedTuple):
    """A score in the weighted mean that a cell shows."""

    weight: float
    data: str
    benchmark: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table; the methods here are those of a column of scores or losses.

    Attributes:
        label: Its heading.
        benchmarks: Benchmarks whose headline metrics it averages.
        data: Training data of the models it shows; empty for all data of a row.
    """

    kind: ClassVar[str]
    """Its name in `results.csv`."""
    unit: ClassVar[str] = ""
    """Explanation below the table."""
    scale: ClassVar[float] = 100.0
    """Factor from a metric to the column's unit."""
    upper_bound: ClassVar[float] = 100.0
    """Largest possible value in the column's unit."""
    digits: ClassVar[int] = 2
    lower_is_better: ClassVar[bool] = False

    label: str
    benchmarks: tuple[str, ...] = ()
    data: tuple[str, ...] = ()

    def weighted_scores(self, row: Row, columns: Sequence[Column]) -> list[WeightedScore]:
        """The scores that a cell of this column averages."""
        pairs = [(data, b) for data in row.columns_data(self) for b in self.benchmarks]
        return [WeightedScore(1 / len(pairs), data, b) for data, b in pairs]

    def values(self, outcomes: RowOutcomes, columns: Sequence[Column]) -> dict[int, float]:
        """Seed -> value in the column's unit, for the seeds that have all scores of the cell."""
        parts = self.weighted_scores(outcomes.row, columns)
        found: dict[int, float] = {}
        for seed in outcomes.seeds:
            scores = [outcomes.score(seed, part) for part in parts]
            known = [s.value for s in scores if isinstance(s, Score)]
            if parts and len(known) == len(parts):
                total = sum(p.weight * v for p, v in zip(parts, known, strict=True))
                found[seed] = self.scale * total
        return found

    def missing(self, outcomes: RowOutcomes, columns: Sequence[Column]) -> tuple[MissingScore, ...]:
        """The scores that a cell lacks, each once."""
        parts = self.weighted_scores(outcomes.row, columns)
        scores = [outcomes.score(seed, part) for seed in outcomes.seeds for part in parts]
        return tuple(dict.fromkeys(s for s in scores if isinstance(s, MissingScore)))

    def printed(self, row: Row, layout: Layout) -> float | None:
        """The paper's number, or None."""
        return layout.printed.get((row.label, self.label))

    def can_have_value(self, rows: Sequence[Row], columns: Sequence[Column]) -> bool:
        """Whether some row has runs on all data of the column."""
        return any(row.runs.keys() >= set(row.columns_data(self)) for row in rows)

    def best(self, values: Sequence[float]) -> float | None:
        """The best of these values, or None if the column ranks none."""
        return min(values) if self.lower_is_better else max(values)

    def text(self, value: float) -> str:
        """A value with the digits of the column."""
        return f"{value:.{self.digits}f}".replace("-", MINUS)

    def interval_text(self, cell: Cell) -> str:
        """The 95 % interval of a cell, or empty."""
        return TO.join(map(self.text, cell.interval)) if cell.interval else ""


class ScoreColumn(Column):
    """Scores of one or several benchmarks in percent."""

    kind = "score"
    unit = "scores in percent"


class LossColumn(Column):
    """Losses in nats."""

    kind = "loss"
    unit = "losses in nats per token"
    scale = 1.0
    upper_bound = inf
    digits = 3
    lower_is_better = True


class AverageColumn(Column):
    """The average of the columns of scores: of all, or of those of its `data`."""

    kind = "average"

    def _scores(self, columns: Sequence[Column]) -> list[ScoreColumn]:
        own = [c for c in columns if isinstance(c, ScoreColumn)]
        return [c for c in own if self.data in ((), c.data)]

    def weighted_scores(self, row: Row, columns: Sequence[Column]) -> list[WeightedScore]:
        """Each column of scores has the same weight, whatever the number of its benchmarks."""
        parts = [c.weighted_scores(row, columns) for c in self._scores(columns)]
        return [s._replace(weight=s.weight / len(parts)) for part in parts for s in part]

    def printed(self, row: Row, layout: Layout) -> float | None:
        """The paper's average; for some of the data, the average of the paper's scores."""
        found = super().printed(row, layout)
        if found is not None or not self.data:
            return found
        known = [c.printed(row, layout) for c in self._scores(layout.columns)]
        return None if None in known else mean(known)  # pyright: ignore[reportArgumentType]

    def can_have_value(self, rows: Sequence[Row], columns: Sequence[Column]) -> bool:
        """Whether some row has runs on all data of all columns of scores."""
        own = [c for c in columns if isinstance(c, ScoreColumn)]
        return any(all(c.can_have_value([row], columns) for c in own) for row in rows)


class ChangeColumn(Column):
    """Difference to the row w/ full of the same block, in the headline column."""

    kind = "change"

    def weighted_scores(self, row: Row, columns: Sequence[Column]) -> list[WeightedScore]:
        """The scores of the headline column."""
        return headline_column(columns).weighted_scores(row, columns)

    def can_have_value(self, rows: Sequence[Row], columns: Sequence[Column]) -> bool:
        """Whether some row has a row w/ full beside it."""
        full = [row for row in rows if row.kind.method == "full"]
        return any(row.block == f.block and row is not f for f in full for row in rows)

    def best(self, values: Sequence[float]) -> None:
        """None: the headline column ranks the rows."""

    def text(self, value: float) -> str:
        """A value with its sign."""
        return ("+" if value >= 0 else "") + super().text(value)

    def interval_text(self, cell: Cell) -> str:
        """The interval of the paired difference, and McNemar's exact p where there is one."""
        if cell.interval is None:
            return ""
        p = cell.from_full.p_mcnemar if cell.from_full else None
        return " to ".join(map(self.text, cell.interval)) + ("" if p is None else f", p {p:.2g}")


class HoursColumn(Column):
    """Hours of training, averaged over the data of a row."""

    kind = "hours"
    unit = "hours of training in wall time"
    lower_is_better = True

    def weighted_scores(self, row: Row, columns: Sequence[Column]) -> list[WeightedScore]:
        """None: times have no documents."""
        return []

    def values(self, outcomes: RowOutcomes, columns: Sequence[Column]) -> dict[int, float]:
        """Seed -> hours, for the seeds with a time on all data."""
        found: dict[int, float] = {}
        for seed in outcomes.seeds:
            own = [outcomes.outcome(seed, data) for data in outcomes.by_data]
            times = [o.result.train_seconds for o in own if o and o.result]
            known = [t for t in times if t is not None]
            if own and len(known) == len(own):
                found[seed] = mean(known) / HOUR
        return found

    def missing(self, outcomes: RowOutcomes, columns: Sequence[Column]) -> tuple[MissingScore, ...]:
        """Why runs of the row have no result."""
        return tuple(o.gap for o in outcomes.all if o.gap)

    def text(self, value: float) -> str:
        """Two decimals, or two significant digits below six minutes."""
        return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def headline_column(columns: Sequence[Column]) -> Column:
    """The average over all scores, or the only column of scores."""
    average = [c for c in columns if isinstance(c, AverageColumn) and not c.data]
    return (average or [c for c in columns if isinstance(c, ScoreColumn)])[0]
