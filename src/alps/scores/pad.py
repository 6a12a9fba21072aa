"""Parameter alignment distribution score (eq. 6 and 7): Wasserstein-1 of two softmaxes.

Eq. 7 measures how far mass must travel, and leaves open in which space. `ground` says it:

- `index`: entry i of the flattened matrix sits at i / (N - 1) on [0, 1], its probability is the
  mass there (the authors' code). The order of the entries matters.
- `values`: every entry has mass 1 / N and sits at its probability.
- `weights`: every entry has mass 1 / N and sits at its weight, which is what Appendix E argues
  about; the softmax plays no part.
"""

from typing import Literal

import numpy as np
from scipy.linalg import get_blas_funcs

from alps.heads.head_pair import HeadPair, Softmax, aligned, blocks, running_sums

(sum_of_sizes,) = get_blas_funcs(("asum",), dtype=np.float64)


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
        return _plainly(pair, tau) if change is None else _travelled(pair, change)
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


def _travelled(pair: HeadPair, change: Softmax) -> float:
    """Mean absolute running sum of (task - base) probabilities, carried from part to part.

    task - base is (gained - growth x mass) / (total x (1 + growth)), so that only changes are
    summed.
    """
    carried = travelled = 0.0
    for part, soft, weight in zip(pair.parts, change.softs, change.weights, strict=True):
        begin = carried
        columns = weight * (soft.column_gained - change.growth * soft.column_mass)
        before = carried + np.cumsum(columns) - columns
        for rows in blocks(part.base):
            moved = aligned(soft.mass[rows].shape)
            np.multiply(soft.mass[rows], -change.growth * weight, out=moved)
            moved += soft.gained[rows] if weight == 1 else soft.gained[rows] * weight
            if part.shared:  # these were running sums already
                moved += begin
            else:
                before = running_sums(moved, before)[-1]
            travelled += float(sum_of_sizes(moved.ravel()))
        carried += float(columns.sum())
    return travelled / (change.total * (1 + change.growth)) / max(pair.size - 1, 1)


def _plainly(pair: HeadPair, tau: float) -> float:
    base, task = (softmax(x, tau) for x in pair.flat())
    return float(np.abs((task - base).cumsum()[:-1]).sum() / max(pair.size - 1, 1))
