"""A row of a table with the runs behind it, and what a column averages over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alps.report.columns import Column
from alps.report.layout import Layout, Row
from alps.report.resampling import drawn
from alps.report.run_kind import BASE
from alps.report.state import Gap, Score, Subject


class Term(NamedTuple):
    """One number that goes into a cell."""

    weight: float
    data: str
    benchmark: str


class Line:
    """A row with its runs, whose numbers are computed once."""

    def __init__(self, row: Row, subjects: Mapping[str, tuple[Subject, ...]]):
        """Of a row and the subjects of each dataset."""
        self.row, self.subjects = row, subjects
        self._draws: dict[tuple[int, str, str], NDArray[np.float64] | None] = {}

    @property
    def all(self) -> list[Subject]:
        """Every run of the row."""
        return [s for each in self.subjects.values() for s in each]

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Those of all its runs; a base model has one, which means nothing."""
        if self.row.kind.method == BASE:
            return (0,)
        return tuple(dict.fromkeys(s.run.seed for s in self.all))

    def subject(self, seed: int, data: str) -> Subject | None:
        """The run of a seed on some data."""
        own = self.subjects.get(data, ())
        if self.row.kind.method == BASE:
            return own[0] if own else None
        return next((s for s in own if s.run.seed == seed), None)

    def score(self, seed: int, term: Term) -> Score | Gap | None:
        """The number of a term; None where the grid has no such run."""
        subject = self.subject(seed, term.data)
        return subject.score(term.benchmark) if subject else None

    def pool(self, seed: int, term: Term) -> str | None:
        """Names the term's documents; None where they are not known."""
        score = self.score(seed, term)
        return score.documents.pool if isinstance(score, Score) and score.documents else None

    def draws(self, seed: int, term: Term) -> NDArray[np.float64] | None:
        """The term's number on every draw of its documents."""
        place = (seed, term.data, term.benchmark)
        if place not in self._draws:
            score = self.score(seed, term)
            documents = score.documents if isinstance(score, Score) else None
            self._draws[place] = drawn(documents) if documents else None
        return self._draws[place]


def terms(row: Row, column: Column, layout: Layout) -> list[Term]:
    """What a column averages in a row; nothing for hours."""
    if column.kind == "average":
        columns = [c for c in layout.columns if c.kind == "score"]
        parts = [terms(row, c, layout) for c in columns]
        return [t._replace(weight=t.weight / len(parts)) for part in parts for t in part]
    if column.kind == "change":
        return terms(row, basis(layout), layout)
    data = row.columns_data(column)
    pairs = [(d, b) for d in data for b in column.benchmarks]
    return [Term(1 / len(pairs), d, b) for d, b in pairs]


def basis(layout: Layout) -> Column:
    """What the column of changes compares: the average, or the only score."""
    average = [c for c in layout.columns if c.kind == "average"]
    return (average or [c for c in layout.columns if c.kind == "score"])[0]


def draws_of(line: Line, seeds: Sequence[int], own: Sequence[Term]) -> NDArray[np.float64] | None:
    """A cell on every draw, averaged over seeds; None where documents are not known of all."""
    total: NDArray[np.float64] | float = 0.0
    for seed in seeds:
        for term in own:
            draws = line.draws(seed, term)
            if draws is None:
                return None
            total = total + term.weight / len(seeds) * draws
    return np.asarray(total) if len(own) else None
