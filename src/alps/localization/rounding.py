"""Whether a task checkpoint was stored too coarsely for the change it should show.

A short fine-tune can move a weight by less than bfloat16 rounds it. Storing it so then loses the
change of most entries and gives the others a size that was never trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)
NEAR = 2
"""Steps between neighbouring numbers that count as near the rounding."""


@dataclass
class Rounding:
    """Counts over the q, k and v entries of a task checkpoint in half precision.

    Attributes:
        entries: Entries compared.
        changed: Those that differ from the base, rounded likewise.
        near: Those that differ by at most `NEAR` steps.
        lost: Entries that differ from the base only until it is rounded likewise.
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
        """What the user should know, or None if the change stands clear of the rounding."""
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
            f"entries differ from the base model, {near:.0%} of those by at most {NEAR} steps of "
            "its rounding: the ranking may be one of rounding errors; score a float32 checkpoint"
        )


def rounding(base: Tensor, task: Tensor) -> Rounding:
    """Compares bit patterns, in which neighbouring numbers of one sign are neighbours."""
    if task.dtype not in HALF:
        return Rounding()
    steps = base.to(task.dtype).contiguous().view(torch.int16) - task.contiguous().view(torch.int16)
    changed = int(torch.count_nonzero(steps))
    within = (steps <= NEAR) & (steps >= -NEAR)  # int16's abs leaves -2^15, a change of sign
    near = int(torch.count_nonzero(within)) - (steps.numel() - changed)
    differing = changed if base.dtype == task.dtype else int(torch.count_nonzero(base != task))
    return Rounding(steps.numel(), changed, near, max(differing - changed, 0))
