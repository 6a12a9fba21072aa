"""One training or test example, as every data source yields it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["train", "test"]

Tally = Counter[str]
"""Rows that were left out, by reason in the words of a report: `empty answer`, `too long`."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """An instruction and the answer a model should learn to give.

    Attributes:
        instruction: What the user asks; the template puts it in its place.
        answer: The reference answer, the only part the loss sees.
        check: What a benchmark needs to judge another answer (plain JSON values), or None where
            the source cannot be used as a benchmark.
    """

    instruction: str
    answer: str
    check: Mapping[str, Any] | None = None


def with_input(instruction: str, extra: str) -> str:
    """An instruction with the input that it speaks of; without an instruction nothing is asked."""
    if instruction.strip() and extra.strip():
        return f"{instruction}\n\n{extra}"
    return instruction
