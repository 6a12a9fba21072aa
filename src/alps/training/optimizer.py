"""AdamW and its schedule: linear warm-up, then a cosine to a share of the peak learning rate."""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from alps.settings.run import Optim


def build_optimizer(parameters: Iterable[nn.Parameter], optim: Optim, fused: bool) -> AdamW:
    """AdamW over the trainable parameters, with weight decay on matrices only."""
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    return AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused)


def build_schedule(optimizer: torch.optim.Optimizer, optim: Optim, num_steps: int) -> LambdaLR:
    """Learning rate schedule by `lr_factor`, per optimizer step."""
    warmup = math.ceil(optim.warmup_ratio * num_steps)
    return LambdaLR(optimizer, lambda k: lr_factor(k, warmup, num_steps, optim.min_lr_ratio))


def lr_factor(step: int, warmup: int, num_steps: int, floor: float) -> float:
    """Learning rate of optimizer step `step` (0-based), as a share of the peak.

    Warm-up step k of W has (k + 1) / W, so that even a single step has a positive rate; the cosine
    then falls from 1 to `floor` at the last step.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup + 1) / max(num_steps - warmup, 1), 1.0)
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
