"""Kullback-Leibler divergence between the softmaxes of two head matrices (eq. 13)."""

import torch
from jaxtyping import Float
from torch import Tensor


def score(
    base: Float[Tensor, "d_model d_head"], task: Float[Tensor, "d_model d_head"], tau: float = 1.0
) -> float:
    """D_KL(softmax(base / tau) || softmax(task / tau)), in nats, in float64.

    Summed as p (q/p - 1 - log q/p), which is the same because both have mass 1: every term is
    positive, where p log(p/q) would cancel to noise for the small changes of a fine-tuning.

    Args:
        base: Head matrix of the base model.
        task: Head matrix of the task model.
        tau: Temperature of eq. 6.
    """
    log_p = torch.log_softmax(base.double().flatten() / tau, dim=0)
    log_q = torch.log_softmax(task.double().flatten() / tau, dim=0)
    p, change = log_p.exp(), log_q - log_p
    gained = torch.where(change < 1, p * torch.expm1(change), log_q.exp() - p)  # q - p
    return float((gained - p * change).sum())
