"""How sure a benchmark's number is: standard error and bootstrap interval over documents.

Every metric here is a mean over groups of documents, and over parts, of a ratio of sums. A plain
accuracy is one group and one part with denominators 1; IFEval's instruction accuracy has the number
of instructions as denominators, its headline is four parts; MMLU's macro average has the subjects
as groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alps.evals.subject import Uncertainty

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
CELLS_AT_ONCE = 2**20  # resampled documents in memory


@dataclass(frozen=True)
class Part:
    """One ratio of sums: per document, what counts above and below the line.

    Attributes:
        above: Numerator of each document.
        below: Positive denominator of each document; None for 1, which makes the ratio a mean.
    """

    above: ArrayLike
    below: ArrayLike | None = None

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both as arrays of one length."""
        above = np.asarray(self.above, dtype=np.float64)
        below = np.ones_like(above) if self.below is None else np.asarray(self.below, np.float64)
        assert above.ndim == 1 and above.shape == below.shape and len(above), "one number each"
        assert (below > 0).all(), "a document counts for nothing"
        return above, below


def value(*parts: Part, groups: Sequence[Hashable] | None = None) -> float:
    """The metric itself.

    Args:
        parts: Ratios over the same documents, averaged.
        groups: Group of each document; the ratios of groups are averaged, whatever their sizes.
    """
    order, starts = _grouped(groups, len(parts[0].arrays()[0]))
    return float(_ratios(parts, order[None], starts)[0])


def uncertainty(
    *parts: Part,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Uncertainty | None:
    """Standard error and 95 % percentile-bootstrap interval of `value` over documents.

    The standard error is the linearised one: for a mean the usual s / sqrt(n), for a ratio of sums
    the delta method. The bootstrap draws documents within their group, the same for all parts.

    Args:
        parts: Ratios over the same documents, averaged.
        groups: Group of each document.
        resamples: Bootstrap samples.
        seed: Of their draw; no other random state is read or changed.

    Returns:
        None if a group has only one document, which says nothing about its spread.
    """
    order, starts = _grouped(groups, len(parts[0].arrays()[0]))
    sizes = np.diff(np.append(starts, len(order)))
    if (sizes < 2).any():
        return None
    chunks = _resampled(order, starts, sizes, resamples, seed)
    drawn = np.concatenate([_ratios(parts, chunk, starts) for chunk in chunks])
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Uncertainty(_stderr(parts, order, starts, sizes), float(low), float(high))


def _grouped(groups: Sequence[Hashable] | None, count: int) -> tuple[NDArray, NDArray]:
    """Documents in the order of their groups, and where each group begins in it."""
    if groups is None:
        return np.arange(count), np.zeros(1, dtype=np.intp)
    assert len(groups) == count, "one group for each document"
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    codes = np.array([numbers[group] for group in groups])
    sizes = np.bincount(codes)
    return np.argsort(codes, kind="stable"), np.cumsum(sizes) - sizes


def _resampled(
    order: NDArray, starts: NDArray, sizes: NDArray, resamples: int, seed: int
) -> Iterator[NDArray]:
    """Documents drawn with replacement within their groups, some (resamples, documents) a time."""
    random = np.random.default_rng(seed)
    first, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    at_once = max(1, CELLS_AT_ONCE // len(order))
    for done in range(0, resamples, at_once):
        shape = (min(at_once, resamples - done), len(order))
        yield order[first + (random.random(shape) * size).astype(np.intp)]


def _ratios(parts: Sequence[Part], chosen: NDArray, starts: NDArray) -> NDArray[np.float64]:
    """The metric of each row of chosen documents."""
    total = np.zeros(len(chosen))
    for part in parts:
        above, below = (np.add.reduceat(a[chosen], starts, axis=1) for a in part.arrays())
        total += (above / below).mean(axis=1)
    return total / len(parts)


def _stderr(parts: Sequence[Part], order: NDArray, starts: NDArray, sizes: NDArray) -> float:
    influence = np.zeros(len(order))
    for part in parts:
        above, below = (array[order] for array in part.arrays())
        sums = np.repeat(np.add.reduceat(below, starts), sizes)
        ratio = np.repeat(np.add.reduceat(above, starts), sizes) / sums
        influence += (above - ratio * below) * np.repeat(sizes, sizes) / sums / len(parts)
    # within a group the influences sum to 0, so their squares are the deviations from the mean
    variances = np.add.reduceat(influence**2, starts) / (sizes - 1) / sizes
    return float(np.sqrt(variances.sum()) / len(sizes))
