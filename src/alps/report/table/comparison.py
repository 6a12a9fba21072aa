"""Rows compared with w/ full and with Random, paired by seed and by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Literal

from alps.evals.statistics import ALPHA, Deviations, Interval, Spread, holm, mcnemar
from alps.report.outcomes import Score
from alps.report.run_kind import BASE
from alps.report.table.aggregate import Line, basis, deviations_of, spread, terms, unit, values
from alps.report.table.columns import Column
from alps.report.table.layout import Layout

Correction = Literal["none", "holm"]
"""For the number of comparisons with a row of reference, all scores and losses of the table."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A cell less the one it is compared with, in the column's unit, over the seeds of both.

    Attributes:
        ours: Mean of the cell over these seeds.
        theirs: Mean of the other.
        seeds: Those that both have.
        partial: Whether one of them has further seeds.
        interval: Of the paired difference, or None where the documents of both are not known to be
            the same.
        p: McNemar's exact p where there is one, which holds for few documents, too; else the
            interval's: the alpha at which it would touch zero.
        p_holm: The same after Holm's correction.
        p_mcnemar: McNemar's exact p, where one model of each answered the same yes/no documents.
    """

    ours: float
    theirs: float
    seeds: tuple[int, ...]
    partial: bool = False
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    p_mcnemar: float | None = None

    @property
    def value(self) -> float:
        """This minus that."""
        return self.ours - self.theirs

    def tells_apart(self, correction: Correction) -> Literal["", "models", "methods"]:
        """What differs at the 5 % level: two trained models, or methods if over several seeds."""
        p = self.p_holm if correction == "holm" else self.p
        if p is None or p >= ALPHA:
            return ""
        return "models" if len(self.seeds) == 1 else "methods"


def differences(
    lines: Sequence[Line], method: str, layout: Layout
) -> list[list[Difference | None]]:
    """Every cell less that of the row it is compared with.

    Args:
        lines: All rows.
        method: Of the rows of reference.
        layout: Of the table; the column of changes has the differences of what it is about.
    """
    columns, found = layout.columns, []
    for line in lines:
        other = _reference(line, lines, method)
        found.append([_difference(line, other, column, layout) for column in columns])
    own = [j for j, column in enumerate(columns) if column.kind != "change"]
    places = [(i, j) for i, row in enumerate(found) for j in own if row[j] and row[j].p is not None]
    adjusted = holm([found[i][j].p for i, j in places])
    for (i, j), p in zip(places, adjusted, strict=True):
        found[i][j] = replace(found[i][j], p_holm=p)
    for j, column in enumerate(columns):
        if column.kind == "change":
            for row in found:
                row[j] = row[columns.index(basis(layout))]
    return found


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
    if other is None or column.kind == "change":
        return None
    ours, theirs = (values(x, column, layout) for x in (line, other))
    if line.row.kind.method == BASE and ours:
        ours = dict.fromkeys(theirs, next(iter(ours.values())))
    each = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    if not each:
        return None
    center, found = mean(each.values()), _spread(line, other, each, column, layout)
    exact = _mcnemar(line, other, tuple(each), column, layout) if found else None
    return Difference(
        ours=mean(ours[seed] for seed in each),
        theirs=mean(theirs[seed] for seed in each),
        seeds=tuple(each),
        partial=ours.keys() != theirs.keys(),
        interval=found.interval(center) if found else None,
        p=found.p_value(center) if found and exact is None else exact,
        p_mcnemar=exact,
    )


def _spread(
    line: Line, other: Line, each: Mapping[int, float], column: Column, layout: Layout
) -> Spread | None:
    """Where both answered the same documents of each benchmark."""
    if column.kind == "hours":
        return None
    own, its = (terms(x.row, column, layout) for x in (line, other))
    found = [_less(deviations_of(line, s, own), deviations_of(other, s, its)) for s in each]
    return spread(list(each.values()), found, unit(column))


def _less(ours: Deviations | None, theirs: Deviations | None) -> Deviations | None:
    if ours is None or theirs is None or ours.keys() != theirs.keys():
        return None
    return {pool: ours[pool] - theirs[pool] for pool in ours}


def _mcnemar(
    line: Line, other: Line, seeds: Sequence[int], column: Column, layout: Layout
) -> float | None:
    own, its = (terms(x.row, column, layout) for x in (line, other))
    if not len(seeds) == len(own) == len(its) == 1:
        return None
    ours, theirs = line.score(seeds[0], own[0]), other.score(seeds[0], its[0])
    if not isinstance(ours, Score) or not isinstance(theirs, Score):
        return None
    if ours.documents is None or theirs.documents is None:
        return None
    return mcnemar(ours.documents, theirs.documents)
