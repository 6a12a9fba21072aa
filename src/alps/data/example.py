"""Examples: an instruction and its answer, as every data source yields them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["train", "test"]

DropCounts = Counter[str]
"""Number of dropped examples by reason, such as `empty answer` or `too long`."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """An instruction and its answer, for training or for a benchmark.

    Attributes:
        instruction: Text of the user, without the template.
        answer: Reference answer, the only part with labels.
        check: JSON values by which a benchmark scores another answer, or None if the source is no
            benchmark.
    """

    instruction: str
    answer: str
    check: Mapping[str, Any] | None = None


def with_input(instruction: str, extra: str) -> str:
    """The instruction followed by its input; an empty instruction stays empty."""
    if instruction.strip() and extra.strip():
        return f"{instruction}\n\n{extra}"
    return instruction
