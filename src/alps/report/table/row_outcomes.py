"""A row of a table with the outcomes of its runs, and the statistics of its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from alps.evals.statistics import Deviations, VarianceComponents, variance_components
from alps.report.outcomes import MissingScore, RunOutcome, Score
from alps.report.run_kind import BASE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alps.report.table.columns import WeightedScore
    from alps.report.table.layout import Row


class RowOutcomes:
    """The outcomes of a row's runs."""

    def __init__(self, row: Row, by_data: Mapping[str, tuple[RunOutcome, ...]]):
        """Of a row, with its outcomes by training data."""
        self.row, self.by_data = row, by_data

    @property
    def all(self) -> list[RunOutcome]:
        """The outcomes of all its runs."""
        return [outcome for each in self.by_data.values() for outcome in each]

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of its runs; (0,) for a base model, which has none."""
        if self.row.kind.method == BASE:
            return (0,)
        return tuple(dict.fromkeys(o.run.seed for o in self.all))

    def outcome(self, seed: int, data: str) -> RunOutcome | None:
        """The outcome of one seed on one dataset."""
        own = self.by_data.get(data, ())
        if self.row.kind.method == BASE:
            return own[0] if own else None
        return next((o for o in own if o.run.seed == seed), None)

    def score(self, seed: int, part: WeightedScore) -> Score | MissingScore | None:
        """A score of a cell; None where the grid has no such run."""
        outcome = self.outcome(seed, part.data)
        return outcome.score(part.benchmark) if outcome else None

    def cell_deviations(self, seed: int, parts: Sequence[WeightedScore]) -> Deviations | None:
        """Deviations of a cell by pool of documents; None where some documents are unknown."""
        total: dict[str, NDArray[np.float64]] = {}
        for part in parts:
            score = self.score(seed, part)
            if not isinstance(score, Score) or not score.documents or score.deviations is None:
                return None
            pool = score.documents.pool
            total[pool] = total.get(pool, 0.0) + part.weight * score.deviations
        return total


def scaled_variance_components(
    values: Sequence[float], found: Sequence[Deviations | None], scale: float
) -> VarianceComponents | None:
    """Variance of a cell, or of a difference of two, between seeds and over documents.

    Args:
        values: Value of each seed, in the column's unit.
        found: Deviations of each seed by pool of documents, in the metric's unit.
        scale: Factor from the metric's unit to the column's.

    Returns:
        None where documents are unknown.
    """
    known = [{pool: scale * d for pool, d in one.items()} for one in found if one is not None]
    return variance_components(values, known) if len(known) == len(found) else None
