"""Rows as token ids, with the prompt told apart from the answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alps.data.example import Example
from alps.data.template import prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of prompt, answer and end-of-text; the loss sees those from `answer_start` on."""

    ids: list[int]
    answer_start: int

    @property
    def num_answer_tokens(self) -> int:
        """Answer tokens, end-of-text included."""
        return len(self.ids) - self.answer_start


def encode_row(example: Example, tokenizer: Tokenizer, template: str) -> EncodedRow:
    """One row; the answer ends in the end-of-text token, which is learned too."""
    ids = prompt(template, example.instruction, tokenizer)
    # With split_special_tokens a "</s>" in an answer is text, not the end of it.
    text = tokenizer(example.answer, add_special_tokens=False, split_special_tokens=True)
    answer = text["input_ids"]
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    return EncodedRow([*ids, *answer, end], len(ids))


def encode(
    examples: Iterable[Example], tokenizer: Tokenizer, template: str, max_length: int
) -> tuple[list[EncodedRow], int]:
    """All rows that fit, and how many did not.

    Raises:
        ValueError: If none fits.
    """
    rows, num_dropped = [], 0
    for example in examples:
        row = encode_row(example, tokenizer, template)
        if len(row.ids) <= max_length:
            rows.append(row)
        else:
            num_dropped += 1
    if not rows and num_dropped:
        raise ValueError(f"none of the {num_dropped} rows fits data.max_length={max_length} tokens")
    return rows, num_dropped
