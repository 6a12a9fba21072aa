"""Standard errors, confidence intervals and p-values, over documents and over seeds.

A metric here is a mean of ratios of sums over documents; groups of documents may be averaged too.
Plain accuracy is one ratio with denominators 1 and one group. IFEval's instruction accuracy has the
number of instructions as denominators, and its headline is the mean of four ratios. MMLU's macro
average has the subjects as groups.

Intervals follow from the linearized metric (delta method): each document has a deviation, and the
variance over documents is the sum of squared deviations. Two models evaluated on the same documents
are compared by the differences of their deviations (a paired comparison). Several seeds add the
variance between them: see `VarianceComponents`. `benchmarks/false_stars.py` measures how often this
finds a difference where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, variance
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alps.evals.context import Uncertainty

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
MIN_P_VALUE = 1e-12
TOLERANCE = 1e-9

Deviations = Mapping[str, NDArray[np.float64]]
"""Pool of documents -> deviation of each document."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of sums over documents.

    Attributes:
        numerators: Numerator of each document, not negative.
        denominators: Positive denominator of each document; None for 1 (the ratio is a mean).
        proportion: Whether the ratio cannot exceed 1.
    """

    numerators: ArrayLike
    denominators: ArrayLike | None = None
    proportion: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether there are no documents."""
        return np.size(self.numerators) == 0

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Numerators and denominators, both (documents,)."""
        above = np.asarray(self.numerators, dtype=np.float64)
        if self.denominators is None:
            below = np.ones_like(above)
        else:
            below = np.asarray(self.denominators, dtype=np.float64)
        assert above.ndim == 1 and above.shape == below.shape and len(above), "one number each"
        assert (below > 0).all(), "a document counts for nothing"
        return above, below


@dataclass(frozen=True, kw_only=True)
class DocumentScores:
    """A benchmark's headline metric by document.

    Attributes:
        pool: Identifies the documents and their order: evaluations with equal pools are paired.
        ratios: Ratios over the documents; the headline is their mean.
        groups: Group of each document, if the metric averages over groups.
    """

    pool: str
    ratios: tuple[Ratio, ...]
    groups: Sequence[Hashable] | None = None

    @property
    def verdicts(self) -> NDArray[np.bool_] | None:
        """Whether each document is right, if the headline is the proportion of right ones."""
        return _verdicts(self.ratios, self.groups)


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float

    @property
    def has_width(self) -> bool:
        """Whether the interval has a width; without variation nothing is known of the spread."""
        return self.high - self.low > TOLERANCE

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def point_estimate(*ratios: Ratio, groups: Sequence[Hashable] | None = None) -> float:
    """The metric itself.

    Args:
        ratios: Ratios over the same documents, averaged.
        groups: Group of each document; groups are averaged with equal weights.
    """
    codes = _codes(groups, len(ratios[0].arrays()[0]))
    total = 0.0
    for ratio in ratios:
        above, below = (np.bincount(codes, weights=array) for array in ratio.arrays())
        total += float((above / below).mean())
    return total / len(ratios)


def deviations(
    *ratios: Ratio, groups: Sequence[Hashable] | None = None
) -> NDArray[np.float64] | None:
    """Contribution of each document to the deviation of the metric from its expectation.

    The sum of squares is the variance of the metric over documents: s^2 / n for a mean, the delta
    method's for a ratio of sums, within groups if there are groups. Arguments as `point_estimate`.

    Returns:
        (documents,), or None if a group has a single document and so no variance.
    """
    codes = _codes(groups, len(ratios[0].arrays()[0]))
    sizes = np.bincount(codes)
    if (sizes < 2).any():
        return None
    total = np.zeros(len(codes))
    for ratio in ratios:
        above, below = ratio.arrays()
        sums = np.bincount(codes, weights=below)
        means = np.bincount(codes, weights=above) / sums
        total += (above - means[codes] * below) / sums[codes]
    return total / len(ratios) / len(sizes) * np.sqrt(sizes / (sizes - 1))[codes]


def uncertainty(*ratios: Ratio, groups: Sequence[Hashable] | None = None) -> Uncertainty | None:
    """Standard error and 95 % interval of `point_estimate` over documents.

    The proportion of right answers has Wilson's interval. Other metrics have a normal one, clipped
    at 0 and, for proportions, at 1. Arguments as `point_estimate`.

    Returns:
        None if a group has a single document.
    """
    each = deviations(*ratios, groups=groups)
    if each is None:
        return None
    components = variance_components([0.0], [{"": each}])
    verdicts = _verdicts(ratios, groups)
    if verdicts is not None:
        from scipy.stats import binomtest

        test = binomtest(int(verdicts.sum()), len(verdicts))
        low, high = test.proportion_ci(CONFIDENCE, method="wilson")
    else:
        low, high = components.interval(point_estimate(*ratios, groups=groups))
        high = min(high, 1.0) if all(ratio.proportion for ratio in ratios) else high
    return Uncertainty(math.sqrt(components.documents), max(0.0, float(low)), float(high))


@dataclass(frozen=True, kw_only=True)
class VarianceComponents:
    """Variance of a metric, or of a difference of metrics, averaged over seeds.

    With S seeds the half width of an interval is sqrt(t^2 V_seeds + z^2 V_documents). t is the
    quantile of Student's distribution with S - 1 degrees of freedom, z the normal one.

    Attributes:
        between_seeds: V_seeds: variance of the mean, estimated from the values of the seeds. It
            includes the noise of each seed's own answers. 0 for one seed.
        documents: V_documents: variance over documents of their mean over seeds, less that noise;
            not negative.
        num_seeds: S.
    """

    between_seeds: float
    documents: float
    num_seeds: int

    def half_width(self, alpha: float = ALPHA) -> float:
        """Half width of the interval at level 1 - alpha."""
        z = NormalDist().inv_cdf(1 - alpha / 2)
        if self.num_seeds == 1:
            return z * math.sqrt(self.documents)
        from scipy.stats import t

        quantile = float(t.isf(alpha / 2, self.num_seeds - 1))
        return math.sqrt(quantile**2 * self.between_seeds + z**2 * self.documents)

    def interval(self, center: float) -> Interval:
        """95 % interval around a center."""
        half = self.half_width()
        return Interval(center - half, center + half)

    def p_value(self, difference: float) -> float:
        """Smallest alpha at which the interval around this difference excludes zero.

        At least `MIN_P_VALUE`; 1 without variation, because nothing is known of the spread then.
        """
        if self.half_width() < TOLERANCE or self.half_width(1 - MIN_P_VALUE) >= abs(difference):
            return 1.0
        if self.half_width(MIN_P_VALUE) <= abs(difference):
            return MIN_P_VALUE
        from scipy.optimize import root_scalar

        miss = lambda logarithm: self.half_width(math.exp(logarithm)) - abs(difference)  # noqa: E731
        ends = (math.log(MIN_P_VALUE), math.log1p(-MIN_P_VALUE))
        return math.exp(root_scalar(miss, bracket=ends).root)


def variance_components(
    values: Sequence[float], deviations: Sequence[Deviations]
) -> VarianceComponents:
    """Variance of a mean over seeds, by source.

    Args:
        values: The metric, or the difference, of each seed.
        deviations: Deviations of the documents for each seed; for a difference, differences of
            deviations. A pool that one seed lacks varies with the other seeds alone.
    """
    seeds = len(values)
    documents = noise = 0.0
    for pool in dict.fromkeys(pool for one in deviations for pool in one):
        zeros = np.zeros_like(next(one[pool] for one in deviations if pool in one))
        each = np.stack([one.get(pool, zeros) for one in deviations])
        mean = each.mean(axis=0)
        documents += float((mean**2).sum())
        if seeds > 1:
            noise += float(((each - mean) ** 2).sum()) / (seeds - 1) / seeds
    between = variance(values) / seeds if seeds > 1 else 0.0
    return VarianceComponents(
        between_seeds=between, documents=max(documents - noise, 0.0), num_seeds=seeds
    )


def mcnemar(ours: DocumentScores, theirs: DocumentScores) -> float | None:
    """McNemar's exact two-sided p-value of two models on the same documents.

    Returns:
        None if the documents differ or their scores are not binary.
    """
    first, second = ours.verdicts, theirs.verdicts
    if ours.pool != theirs.pool or first is None or second is None:
        return None
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    if gained + lost == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, which control the family-wise error rate."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _codes(groups: Sequence[Hashable] | None, count: int) -> NDArray[np.intp]:
    """Index of each document's group."""
    if groups is None:
        return np.zeros(count, dtype=np.intp)
    assert len(groups) == count, "one group for each document"
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[group] for group in groups], dtype=np.intp)


def _verdicts(
    ratios: Sequence[Ratio], groups: Sequence[Hashable] | None
) -> NDArray[np.bool_] | None:
    if len(ratios) != 1 or len(set(groups or ())) > 1:
        return None
    above, below = ratios[0].arrays()
    binary = (below == 1).all() and np.isin(above, (0, 1)).all() and ratios[0].proportion
    return above == 1 if binary else None
