"""Kullback-Leibler divergence between the softmaxes of two head matrices (eq. 13)."""

import torch
from jaxtyping import Float
from torch import Tensor


def score(
    base: Float[Tensor, "d_model d_head"], task: Float[Tensor, "d_model d_head"], tau: float = 1.0
) -> float:
    """D_KL(softmax(base / tau) || softmax(task / tau)), in nats, in float64.

    Args:
        base: Head matrix of the base model.
        task: Head matrix of the task model.
        tau: Temperature of eq. 6.
    """
    log_p = torch.log_softmax(base.double().flatten() / tau, dim=0)
    log_q = torch.log_softmax(task.double().flatten() / tau, dim=0)
    return float((log_p.exp() * (log_p - log_q)).sum())
