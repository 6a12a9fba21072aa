"""Parameter alignment distribution score (eq. 6 and 7): Wasserstein-1 of two softmaxes.

The ground space is the index grid on [0, 1], as in the authors' code: entry i of the flattened
matrix (C order) sits at i / (N - 1), and its probability is the mass there.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def score(
    base: Float[Tensor, "d_model d_head"], task: Float[Tensor, "d_model d_head"], tau: float = 1.0
) -> float:
    """W1(softmax(base / tau), softmax(task / tau)).

    Both softmaxes are computed and renormalised in float64: in float32 their mass is off by more
    than the scores themselves.

    Args:
        base: Head matrix of the base model.
        task: Head matrix of the task model.
        tau: Temperature of eq. 6.

    Returns:
        A distance in [0, 1].
    """
    shift = probabilities(task, tau) - probabilities(base, tau)
    cumulative = shift.cumsum(0)[:-1]
    return float(cumulative.abs().sum() / max(cumulative.numel(), 1))


def probabilities(matrix: Float[Tensor, "d_model d_head"], tau: float) -> Float[Tensor, " n"]:
    """Tempered softmax over all entries of a head matrix (eq. 6), in float64, with sum 1."""
    p = torch.softmax(matrix.double().flatten() / tau, dim=0)
    return p / p.sum()
