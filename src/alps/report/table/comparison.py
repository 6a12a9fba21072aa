"""Differences of rows to w/ full and to Random, paired by seed and by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Literal

from alps.evals.statistics import ALPHA, Deviations, Interval, VarianceComponents, holm, mcnemar
from alps.report.outcomes import Score
from alps.report.run_kind import BASE
from alps.report.table.columns import ChangeColumn, Column, WeightedScore, headline_column
from alps.report.table.layout import Layout
from alps.report.table.row_outcomes import RowOutcomes, scaled_variance_components

Correction = Literal["none", "holm"]
"""For the number of comparisons with Random, over all scores and losses of the table."""

Side = tuple[RowOutcomes, Sequence[WeightedScore]]
"""A row in a comparison, with the scores of its cell."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A cell minus its reference, in the column's unit, over the seeds of both.

    Attributes:
        ours: Mean of the cell over these seeds.
        theirs: Mean of the reference.
        seeds: Seeds that both have.
        partial: Whether one of them has further seeds.
        interval: Of the paired difference, or None unless both answered the same documents.
        p: McNemar's exact p where there is one, which is valid for few documents, too; else the
            alpha at which the interval touches zero.
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
        """The difference itself."""
        return self.ours - self.theirs

    def significance(self, correction: Correction) -> Literal["", "models", "methods"]:
        """What differs at the 5 % level: two trained models, or with several seeds two methods."""
        p = self.p_holm if correction == "holm" else self.p
        if p is None or p >= ALPHA:
            return ""
        return "models" if len(self.seeds) == 1 else "methods"


def differences(
    sources: Sequence[RowOutcomes], method: str, layout: Layout
) -> list[list[Difference | None]]:
    """The difference of every cell to the same column of its reference row.

    Args:
        sources: Outcomes of all rows.
        method: Method of the reference rows.
        layout: Of the table; a column of changes repeats the differences of the headline column.
    """
    columns, found = layout.columns, []
    for source in sources:
        reference = _reference(source, sources, method)
        found.append([_difference(source, reference, column, layout) for column in columns])
    own = [j for j, column in enumerate(columns) if not isinstance(column, ChangeColumn)]
    places = [(i, j) for i, row in enumerate(found) for j in own if row[j] and row[j].p is not None]
    adjusted = holm([found[i][j].p for i, j in places])
    for (i, j), p in zip(places, adjusted, strict=True):
        found[i][j] = replace(found[i][j], p_holm=p)
    for j in (j for j in range(len(columns)) if j not in own):
        for row in found:
            row[j] = row[columns.index(headline_column(columns))]
    return found


def _reference(
    source: RowOutcomes, sources: Sequence[RowOutcomes], method: str
) -> RowOutcomes | None:
    """The row of a method in the same block with the same ratio, preferably of the same variant."""
    row = source.row
    found = [
        other
        for other in sources
        if other.row.block == row.block
        and other.row.kind.method == method
        and (
            None in (other.row.kind.ratio, row.kind.ratio) or other.row.kind.ratio == row.kind.ratio
        )
    ]
    alike = [other for other in found if other.row.variant == row.variant] or found
    return alike[0] if len(alike) == 1 and alike[0] is not source else None


def _difference(
    source: RowOutcomes, reference: RowOutcomes | None, column: Column, layout: Layout
) -> Difference | None:
    """Over the seeds that both have; a base model is compared with every seed."""
    if reference is None or isinstance(column, ChangeColumn):
        return None
    ours, theirs = (column.values(x, layout.columns) for x in (source, reference))
    if source.row.kind.method == BASE and ours:
        ours = dict.fromkeys(theirs, next(iter(ours.values())))
    each = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    if not each:
        return None
    sides = [(x, column.weighted_scores(x.row, layout.columns)) for x in (source, reference)]
    center, variance = mean(each.values()), _variance(sides, each, column.scale)
    exact = _mcnemar(sides, tuple(each)) if variance else None
    return Difference(
        ours=mean(ours[seed] for seed in each),
        theirs=mean(theirs[seed] for seed in each),
        seeds=tuple(each),
        partial=ours.keys() != theirs.keys(),
        interval=variance.interval(center) if variance else None,
        p=variance.p_value(center) if variance and exact is None else exact,
        p_mcnemar=exact,
    )


def _variance(
    sides: Sequence[Side], each: Mapping[int, float], scale: float
) -> VarianceComponents | None:
    """Variance of the difference, where both answered the same documents of each benchmark."""
    if not all(parts for _, parts in sides):
        return None
    found: list[Deviations | None] = []
    for seed in each:
        ours, theirs = (outcomes.cell_deviations(seed, parts) for outcomes, parts in sides)
        if ours is None or theirs is None or ours.keys() != theirs.keys():
            return None
        found.append({pool: ours[pool] - theirs[pool] for pool in ours})
    return scaled_variance_components(list(each.values()), found, scale)


def _mcnemar(sides: Sequence[Side], seeds: Sequence[int]) -> float | None:
    """McNemar's exact p for one seed and one benchmark."""
    if len(seeds) > 1 or any(len(parts) != 1 for _, parts in sides):
        return None
    scores = [outcomes.score(seeds[0], parts[0]) for outcomes, parts in sides]
    ours, theirs = (s.documents if isinstance(s, Score) else None for s in scores)
    return mcnemar(ours, theirs) if ours and theirs else None
