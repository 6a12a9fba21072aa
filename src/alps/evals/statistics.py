"""Standard errors, confidence intervals and p-values, over documents and over seeds.

Every metric here is a mean over groups of documents, and over parts, of a ratio of sums. A plain
accuracy is one group and one part with denominators 1; IFEval's instruction accuracy has the number
of instructions as denominators, its headline is four parts; MMLU's macro average has the subjects
as groups.

Intervals follow from the linearised metric (delta method): each document has a deviation, and the
variance over documents is the sum of their squares. Two models that answered the same documents are
compared by the differences of their deviations. Several seeds add the variance between them:
`Spread` says how, `benchmarks/false_stars.py` how often a difference is found where there is none.
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

LEVEL = 0.95
ALPHA = 1 - LEVEL
SMALLEST_P = 1e-12
ROUNDING = 1e-9

Deviations = Mapping[str, NDArray[np.float64]]
"""Pool of documents -> one number for each of them."""


@dataclass(frozen=True)
class Part:
    """One ratio of sums: per document, what counts above and below the line.

    Attributes:
        above: Numerator of each document, not negative.
        below: Positive denominator of each document; None for 1, which makes the ratio a mean.
        share: Whether the ratio cannot exceed 1.
    """

    above: ArrayLike
    below: ArrayLike | None = None
    share: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether there are no documents."""
        return np.size(self.above) == 0

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both as arrays of one length."""
        above = np.asarray(self.above, dtype=np.float64)
        below = np.ones_like(above) if self.below is None else np.asarray(self.below, np.float64)
        assert above.ndim == 1 and above.shape == below.shape and len(above), "one number each"
        assert (below > 0).all(), "a document counts for nothing"
        return above, below


@dataclass(frozen=True, kw_only=True)
class DocumentScores:
    """A benchmark's headline number, document by document.

    Attributes:
        pool: Names the documents: two evaluations with the same name asked the same ones, in the
            same order.
        parts: Ratios over the documents; the headline is their mean.
        groups: Group of each document, where ratios of groups are averaged.
    """

    pool: str
    parts: tuple[Part, ...]
    groups: Sequence[Hashable] | None = None

    @property
    def verdicts(self) -> NDArray[np.bool_] | None:
        """Right or wrong for each document, where the headline is the share of right ones."""
        return _verdicts(self.parts, self.groups)


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float

    @property
    def has_width(self) -> bool:
        """Whether documents or seeds differ; where none do, nothing is known of others."""
        return self.high - self.low > ROUNDING

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


def value(*parts: Part, groups: Sequence[Hashable] | None = None) -> float:
    """The metric itself.

    Args:
        parts: Ratios over the same documents, averaged.
        groups: Group of each document; the ratios of groups are averaged, whatever their sizes.
    """
    codes = _codes(groups, len(parts[0].arrays()[0]))
    total = 0.0
    for part in parts:
        above, below = (np.bincount(codes, weights=array) for array in part.arrays())
        total += float((above / below).mean())
    return total / len(parts)


def deviations(
    *parts: Part, groups: Sequence[Hashable] | None = None
) -> NDArray[np.float64] | None:
    """What each document contributes to the metric's deviation from its expectation.

    The sum of their squares is the variance of the metric over documents: for a mean s^2 / n, for a
    ratio of sums the delta method's, within groups where there are groups.

    Args:
        parts: Ratios over the same documents, averaged.
        groups: Group of each document.

    Returns:
        One number for each document, or None if a group has only one document, which says nothing
        about its spread.
    """
    codes = _codes(groups, len(parts[0].arrays()[0]))
    sizes = np.bincount(codes)
    if (sizes < 2).any():
        return None
    found = np.zeros(len(codes))
    for part in parts:
        above, below = part.arrays()
        sums = np.bincount(codes, weights=below)
        ratios = np.bincount(codes, weights=above) / sums
        found += (above - ratios[codes] * below) / sums[codes]
    return found / len(parts) / len(sizes) * np.sqrt(sizes / (sizes - 1))[codes]


def uncertainty(*parts: Part, groups: Sequence[Hashable] | None = None) -> Uncertainty | None:
    """Standard error and 95 % interval of `value` over documents.

    The interval of a share of right answers is Wilson's, any other normal, cut at 0 and, for
    shares, at 1.

    Args:
        parts: Ratios over the same documents, averaged.
        groups: Group of each document.

    Returns:
        None if a group has only one document.
    """
    found = deviations(*parts, groups=groups)
    if found is None:
        return None
    spread = spread_of([0.0], [{"": found}])
    verdicts = _verdicts(parts, groups)
    if verdicts is not None:
        from scipy.stats import binomtest

        ends = binomtest(int(verdicts.sum()), len(verdicts)).proportion_ci(LEVEL, method="wilson")
        low, high = ends.low, ends.high
    else:
        low, high = spread.interval(value(*parts, groups=groups))
        high = min(high, 1.0) if all(part.share for part in parts) else high
    return Uncertainty(math.sqrt(spread.documents), max(0.0, float(low)), float(high))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Variance of a number, or of a difference, that is a mean over seeds.

    With S seeds the half width of an interval is sqrt(t^2 V_seeds + z^2 V_documents), t being the
    quantile of Student's distribution with S - 1 degrees of freedom and z the normal one.

    Attributes:
        between_seeds: V_seeds, the variance of the mean as the seeds' numbers show it; it holds
            the noise that each seed's own answers add. 0 for one seed.
        documents: V_documents, what the choice of documents adds: the variance over documents of
            their mean over seeds, less that noise; not negative.
        num_seeds: S.
    """

    between_seeds: float
    documents: float
    num_seeds: int

    def half_width(self, alpha: float = ALPHA) -> float:
        """Of the interval that misses the truth with probability alpha."""
        z = NormalDist().inv_cdf(1 - alpha / 2)
        if self.num_seeds == 1:
            return z * math.sqrt(self.documents)
        from scipy.stats import t

        quantile = float(t.isf(alpha / 2, self.num_seeds - 1))
        return math.sqrt(quantile**2 * self.between_seeds + z**2 * self.documents)

    def interval(self, center: float) -> Interval:
        """The 95 % interval around a number."""
        half = self.half_width()
        return Interval(center - half, center + half)

    def p_value(self, difference: float) -> float:
        """The smallest alpha whose interval around this difference excludes zero.

        No smaller than `SMALLEST_P`; 1 where nothing varies, as nothing is known then.
        """
        if self.half_width() < ROUNDING or self.half_width(1 - SMALLEST_P) >= abs(difference):
            return 1.0
        if self.half_width(SMALLEST_P) <= abs(difference):
            return SMALLEST_P
        from scipy.optimize import root_scalar

        miss = lambda logarithm: self.half_width(math.exp(logarithm)) - abs(difference)  # noqa: E731
        ends = (math.log(SMALLEST_P), math.log1p(-SMALLEST_P))
        return math.exp(root_scalar(miss, bracket=ends).root)


def spread_of(values: Sequence[float], found: Sequence[Deviations]) -> Spread:
    """Where the variance of a mean over seeds comes from.

    Args:
        values: The number, or the difference, of each seed.
        found: For each seed, the deviations of its documents; those of a difference are differences
            of deviations. Documents of one seed only vary with it.
    """
    seeds = len(values)
    documents = noise = 0.0
    for pool in dict.fromkeys(pool for one in found for pool in one):
        nothing = np.zeros_like(next(one[pool] for one in found if pool in one))
        each = np.stack([one.get(pool, nothing) for one in found])
        mean = each.mean(axis=0)
        documents += float((mean**2).sum())
        if seeds > 1:
            noise += float(((each - mean) ** 2).sum()) / (seeds - 1) / seeds
    between = variance(values) / seeds if seeds > 1 else 0.0
    return Spread(between_seeds=between, documents=max(documents - noise, 0.0), num_seeds=seeds)


def mcnemar(ours: DocumentScores, theirs: DocumentScores) -> float | None:
    """McNemar's exact p of two models that answered the same yes/no documents.

    Returns:
        The two-sided p, or None where documents differ or are not right or wrong.
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
    """Holm's adjusted p-values: below alpha, they bound the chance of any false finding by it."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _codes(groups: Sequence[Hashable] | None, count: int) -> NDArray[np.intp]:
    """Number of each document's group."""
    if groups is None:
        return np.zeros(count, dtype=np.intp)
    assert len(groups) == count, "one group for each document"
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[group] for group in groups], dtype=np.intp)


def _verdicts(parts: Sequence[Part], groups: Sequence[Hashable] | None) -> NDArray[np.bool_] | None:
    if len(parts) != 1 or len(set(groups or ())) > 1:
        return None
    above, below = parts[0].arrays()
    plain = (below == 1).all() and np.isin(above, (0, 1)).all() and parts[0].share
    return above == 1 if plain else None
