"""Kullback-Leibler divergence between the softmaxes of two head matrices (eq. 13)."""

import math
from typing import Literal

import numpy as np

from alps.heads.head_pair import HeadPair


def score(
    pair: HeadPair,
    tau: float = 1.0,
    direction: Literal["base_task", "task_base"] = "base_task",
) -> float:
    """D_KL(softmax(base / tau) || softmax(task / tau)), in nats.

    Computed as the log of the normalizer's growth minus the mean change under the base's
    probabilities: both are of the size of the change, so that no digits cancel.

    Args:
        pair: The head.
        tau: Temperature of eq. 6.
        direction: `base_task` is eq. 13, `task_base` its reverse (the authors' script).
    """
    if direction == "task_base":
        pair = pair.swapped()
    change = pair.softmax(tau)
    if change is None:
        log_p, log_q = (x / tau - _log_sum(x / tau) for x in pair.flat())
        return max(float(np.exp(log_p) @ (log_p - log_q)), 0.0)
    pairs = zip(change.weights, change.exponentials, strict=True)
    mean = sum(weight * e.weighted_change for weight, e in pairs) / change.total
    return max(math.log1p(change.growth) - mean, 0.0)


def _log_sum(x: np.ndarray) -> float:
    top = float(x.max())
    return top + math.log(float(np.exp(x - top).sum()))
