"""The largest micro-batch whose predicted memory fits."""

from __future__ import annotations

import math
from bisect import bisect_right

from alps.cost.memory import peak_memory
from alps.cost.shape import ModelShape
from alps.cost.storage import FLOAT32, Storage
from alps.models.training_plan import TrainingPlan

USABLE_MEMORY = 0.85
"""Share of a device's memory that a prediction may use, as predictions are incomplete."""


def largest_micro_batch(
    shape: ModelShape,
    plan: TrainingPlan,
    length: int,
    answer_share: float,
    budget: int,
    storage: Storage = FLOAT32,
) -> int:
    """Largest number of examples of `length` tokens with a predicted peak within `budget` bytes.

    Args:
        shape: Sizes of the model.
        plan: Parameters to train.
        length: Tokens of the longest example.
        answer_share: Share of the tokens whose logits are computed, in [0, 1].
        budget: Usable memory in bytes.
        storage: Bytes per element.

    Raises:
        ValueError: If not even one example fits; one sentence with remedies.
    """

    def peak(size: int) -> int:
        tokens = size * length
        return peak_memory(shape, plan, tokens, math.ceil(answer_share * tokens), storage).total

    if peak(1) > budget:
        raise ValueError(_too_large(peak(0), peak(1), budget, length))
    fits, too_many = 1, 2
    while peak(too_many) <= budget:
        fits, too_many = too_many, 2 * too_many
    return bisect_right(range(fits, too_many), budget, key=peak) + fits - 1


def _too_large(fixed: int, one_row: int, budget: int, length: int) -> str:
    """Sentence on what does not fit, with remedies."""
    gib = 2**30
    if fixed > budget:
        what, shorter = f"weights, gradients and optimizer need {fixed / gib:.1f}", ""
    else:
        what = f"one row of {length} tokens needs {one_row / gib:.1f}"
        shorter = "a smaller data.max_length, "
    return (
        f"{what} GiB of memory, but there are {budget / gib:.1f}: "
        f"{shorter}scope=heads_only, method=lora or a smaller model needs less"
    )
