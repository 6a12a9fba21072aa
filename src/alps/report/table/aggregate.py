"""A row of a table with the runs behind it, and what a column averages over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import mean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alps.evals.statistics import Deviations, Spread, deviations, spread_of
from alps.report.outcomes import MissingScore, RunOutcome, Score
from alps.report.run_kind import BASE
from alps.report.table.columns import Column
from alps.report.table.layout import Layout, Row

PERCENT, HOUR = 100.0, 3600.0


class Term(NamedTuple):
    """One number that goes into a cell."""

    weight: float
    data: str
    benchmark: str


class Line:
    """A row with its runs, whose numbers are computed once."""

    def __init__(self, row: Row, subjects: Mapping[str, tuple[RunOutcome, ...]]):
        """Of a row and the subjects of each dataset."""
        self.row, self.subjects = row, subjects
        self._deviations: dict[tuple[int, str, str], NDArray[np.float64] | None] = {}

    @property
    def all(self) -> list[RunOutcome]:
        """Every run of the row."""
        return [s for each in self.subjects.values() for s in each]

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Those of all its runs; a base model has one, which means nothing."""
        if self.row.kind.method == BASE:
            return (0,)
        return tuple(dict.fromkeys(s.run.seed for s in self.all))

    def subject(self, seed: int, data: str) -> RunOutcome | None:
        """The run of a seed on some data."""
        own = self.subjects.get(data, ())
        if self.row.kind.method == BASE:
            return own[0] if own else None
        return next((s for s in own if s.run.seed == seed), None)

    def score(self, seed: int, term: Term) -> Score | MissingScore | None:
        """The number of a term; None where the grid has no such run."""
        subject = self.subject(seed, term.data)
        return subject.score(term.benchmark) if subject else None

    def pool(self, seed: int, term: Term) -> str | None:
        """Names the term's documents; None where they are not known."""
        score = self.score(seed, term)
        return score.documents.pool if isinstance(score, Score) and score.documents else None

    def deviations(self, seed: int, term: Term) -> NDArray[np.float64] | None:
        """Those of the term's documents; None where they are not known."""
        place = (seed, term.data, term.benchmark)
        if place not in self._deviations:
            score = self.score(seed, term)
            documents = score.documents if isinstance(score, Score) else None
            self._deviations[place] = (
                deviations(*documents.parts, groups=documents.groups) if documents else None
            )
        return self._deviations[place]


def terms(row: Row, column: Column, layout: Layout) -> list[Term]:
    """What a column averages in a row; nothing for hours."""
    if column.kind == "average":
        columns = [c for c in layout.columns if c.kind == "score" and column.data in ((), c.data)]
        parts = [terms(row, c, layout) for c in columns]
        return [t._replace(weight=t.weight / len(parts)) for part in parts for t in part]
    if column.kind == "change":
        return terms(row, basis(layout), layout)
    data = row.columns_data(column)
    pairs = [(d, b) for d in data for b in column.benchmarks]
    return [Term(1 / len(pairs), d, b) for d, b in pairs]


def basis(layout: Layout) -> Column:
    """What the column of changes compares: the average, or the only score."""
    average = [c for c in layout.columns if c.kind == "average" and not c.data]
    return (average or [c for c in layout.columns if c.kind == "score"])[0]


def deviations_of(line: Line, seed: int, own: Sequence[Term]) -> Deviations | None:
    """A cell's deviations by pool of documents; None where documents are not known of all."""
    total: dict[str, NDArray[np.float64]] = {}
    for term in own:
        pool, found = line.pool(seed, term), line.deviations(seed, term)
        if pool is None or found is None:
            return None
        total[pool] = total.get(pool, 0.0) + term.weight * found
    return total


def unit(column: Column) -> float:
    """By what a metric is multiplied to stand in a column."""
    return 1.0 if column.kind == "loss" else PERCENT


def values(line: Line, column: Column, layout: Layout) -> dict[int, float]:
    """Seed -> a cell's number in the column's unit, where nothing of it is missing."""
    if column.kind == "hours":
        return _hours(line)
    own = terms(line.row, column, layout)
    found: dict[int, float] = {}
    for seed in line.seeds:
        scores = [line.score(seed, term) for term in own]
        known = [s.value for s in scores if isinstance(s, Score)]
        if own and len(known) == len(own):
            total = sum(t.weight * v for t, v in zip(own, known, strict=True))
            found[seed] = unit(column) * total
    return found


def spread(
    each: Sequence[float], found: Sequence[Deviations | None], scale: float
) -> Spread | None:
    """Where the variance of a cell, or of a difference, comes from.

    Args:
        each: Its number for each seed, in the column's unit.
        found: For each seed the deviations by pool, in that of the metric.
        scale: The one unit in the other.

    Returns:
        None where documents are unknown.
    """
    known = [{p: scale * d for p, d in one.items()} for one in found if one is not None]
    return spread_of(each, known) if len(known) == len(each) else None


def _hours(line: Line) -> dict[int, float]:
    """Seed -> mean time of training over the row's data."""
    found: dict[int, float] = {}
    for seed in line.seeds:
        own = [line.subject(seed, data) for data in line.subjects]
        times = [s.result.train_seconds for s in own if s and s.result]
        known = [t for t in times if t is not None]
        if own and len(known) == len(own):
            found[seed] = mean(known) / HOUR
    return found
