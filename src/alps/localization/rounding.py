"""Detects task checkpoints whose dtype is too coarse for the change from the base model.

A short fine-tune can change a weight by less than half a rounding step of bfloat16. A bfloat16
checkpoint then loses the change of most entries and exaggerates that of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)
NEAR_STEPS = 2
"""Changes of at most this many rounding steps may be rounding errors."""


@dataclass
class Rounding:
    """Counts over the q, k and v entries of a task checkpoint in half precision.

    Attributes:
        entries: Entries compared.
        changed: Entries that differ from the base rounded to the same dtype.
        near: Entries that differ by at most `NEAR_STEPS` rounding steps.
        lost: Entries that differ from the base only before it is rounded.
    """

    entries: int = 0
    changed: int = 0
    near: int = 0
    lost: int = 0

    def __add__(self, other: Rounding) -> Rounding:
        return Rounding(
            self.entries + other.entries,
            self.changed + other.changed,
            self.near + other.near,
            self.lost + other.lost,
        )

    def warning(self, dtype: str) -> str | None:
        """A warning for the user, or None if most changes exceed the rounding."""
        if self.lost and not self.changed:
            return (
                f"the task checkpoint is stored as {dtype} and equals the base model rounded to "
                "that: the ranking is one of rounding errors; score a float32 checkpoint"
            )
        if not self.changed or self.near <= self.changed / 2:
            return None
        changed, near = self.changed / self.entries, self.near / self.changed
        return (
            f"the task checkpoint is stored as {dtype}, in which only {changed:.1%} of the q/k/v "
            f"entries differ from the base model, {near:.0%} of those by at most {NEAR_STEPS} "
            "steps of its rounding: the ranking may be one of rounding errors; "
            "score a float32 checkpoint"
        )


def rounding(base: Tensor, task: Tensor) -> Rounding:
    """Compares bit patterns, which for one sign are ordered like the numbers."""
    if task.dtype not in HALF:
        return Rounding()
    steps = base.to(task.dtype).contiguous().view(torch.int16) - task.contiguous().view(torch.int16)
    changed = int(torch.count_nonzero(steps))
    within = (steps <= NEAR_STEPS) & (
        steps >= -NEAR_STEPS
    )  # abs of int16 would overflow at -2^15, a change of sign
    near = int(torch.count_nonzero(within)) - (steps.numel() - changed)
    differing = changed if base.dtype == task.dtype else int(torch.count_nonzero(base != task))
    return Rounding(steps.numel(), changed, near, max(differing - changed, 0))
