"""Parameter alignment distribution score (eq. 6 and 7): Wasserstein-1 of two softmaxes.

Eq. 7 is a transport distance whose ground space the paper leaves open. `ground` selects it:

- `index`: entry i of the flattened matrix sits at i / (N - 1) on [0, 1], its probability is the
  mass (the authors' code). The order of the entries matters.
- `values`: every entry has mass 1 / N and sits at its probability.
- `weights`: every entry has mass 1 / N and sits at its weight, as Appendix E argues; no softmax is
  taken.
"""

from typing import Literal

import numpy as np
from scipy.linalg import get_blas_funcs

from alps.heads.head_pair import HeadPair, SoftmaxChange, aligned_empty, cumulative_sums, row_blocks

(asum,) = get_blas_funcs(("asum",), dtype=np.float64)


def score(
    pair: HeadPair,
    tau: float = 1.0,
    ground: Literal["index", "values", "weights"] = "index",
) -> float:
    """W1 between base and task.

    Args:
        pair: The head.
        tau: Temperature of eq. 6.
        ground: Ground space of eq. 7.
    """
    if ground == "index":
        change = pair.softmax(tau)
        return _from_softmaxes(pair, tau) if change is None else _from_change(pair, change)
    base, task = pair.flat()
    base.sort()
    task.sort()
    if ground == "values":  # the softmax keeps the order
        base, task = softmax(base, tau), softmax(task, tau)
    return float(np.abs(task - base).mean())


def softmax(x: np.ndarray, tau: float) -> np.ndarray:
    """Tempered softmax (eq. 6) of a flat vector, renormalised in float64."""
    p = np.exp((x - x.max()) / tau)
    return p / p.sum()


def _from_change(pair: HeadPair, change: SoftmaxChange) -> float:
    """Mean absolute cumulative sum of the change in probability, across all segments.

    task - base is (increase - growth x mass) / (total x (1 + growth)): only changes are summed.
    """
    start = distance = 0.0
    segments = zip(pair.segments, change.exponentials, change.weights, strict=True)
    for segment, e, weight in segments:
        columns = weight * (e.column_increase - change.growth * e.column_mass)
        before = start + np.cumsum(columns) - columns
        for rows in row_blocks(segment.base):
            sums = aligned_empty(e.mass[rows].shape)
            np.multiply(e.mass[rows], -change.growth * weight, out=sums)
            sums += e.increase[rows] if weight == 1 else e.increase[rows] * weight
            if segment.shared:  # its exponentials are cumulative sums already
                sums += start
            else:
                before = cumulative_sums(sums, before)[-1]
            distance += float(asum(sums.ravel()))
        start += float(columns.sum())
    return distance / (change.total * (1 + change.growth)) / max(pair.size - 1, 1)


def _from_softmaxes(pair: HeadPair, tau: float) -> float:
    base, task = (softmax(x, tau) for x in pair.flat())
    return float(np.abs((task - base).cumsum()[:-1]).sum() / max(pair.size - 1, 1))
