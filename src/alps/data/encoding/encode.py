"""Examples as token ids: prompt, answer, end-of-text; the loss sees the last two.

`encode_example` defines the encoding of one example. `encode_batch` yields the same for many, as
the columns that `datasets.Dataset.map` expects, and truncates or drops those that are too long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from alps.data.example import DropCounts, Example
from alps.data.template import Rendered, prompt, render, tokenize_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

TooLong = Literal["truncate", "drop"]
TOO_LONG = "too long"


@dataclass(frozen=True)
class EncodedExample:
    """Token ids of prompt, answer and end-of-text; labels begin at `answer_start`."""

    ids: list[int]
    answer_start: int

    @property
    def num_answer_tokens(self) -> int:
        """Answer tokens, end-of-text included."""
        return len(self.ids) - self.answer_start


class EncodingOptions(NamedTuple):
    """Options of an encoding besides the tokenizer.

    Attributes:
        template: `alpaca`, `chat` or `plain`.
        end: The end-of-text token.
        max_length: Maximum length in tokens.
        too_long: Treatment of longer examples.
        dtype: Integer type that fits every token id.
    """

    template: str
    end: int
    max_length: int
    too_long: TooLong
    dtype: Literal["uint16", "uint32"]

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, template: str, max_length: int, too_long: TooLong
    ) -> EncodingOptions:
        """Options for a tokenizer, which must have an end-of-text token."""
        end = tokenizer.eos_token_id
        assert isinstance(end, int)
        dtype = "uint32" if max(tokenizer.get_vocab().values()) >= 2**16 else "uint16"
        return cls(template, end, max_length, too_long, dtype)


def encode_example(example: Example, tokenizer: Tokenizer, template: str) -> EncodedExample:
    """One example at full length; the loss includes the end-of-text token."""
    ids = prompt(template, example.instruction, tokenizer)
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    return EncodedExample([*ids, *answer_ids(example.answer, tokenizer), end], len(ids))


def answer_ids(answer: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of an answer; with `split_special_tokens` a "</s>" in it is text, not its end."""
    return _tokenize_answers([answer], tokenizer)[0]


def encode(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    template: str,
    max_length: int,
    too_long: TooLong = "truncate",
) -> tuple[list[EncodedExample], DropCounts]:
    """A few examples, in memory, and the number of dropped ones."""
    some = list(examples)
    batch = {"instruction": [e.instruction for e in some], "answer": [e.answer for e in some]}
    options = EncodingOptions.of(tokenizer, template, max_length, too_long)
    columns = encode_batch(batch, tokenizer, options)
    pairs = zip(columns["ids"], columns["answer_start"], strict=True)
    encoded = [EncodedExample(ids, start) for ids, start in pairs]
    return encoded, +DropCounts({TOO_LONG: len(some) - len(encoded)})


def encode_batch(
    batch: Mapping[str, Sequence[str]], tokenizer: Tokenizer, options: EncodingOptions
) -> dict[str, list[Any]]:
    """Encoded examples of a batch; those that are too long are truncated or dropped.

    Args:
        batch: Columns `instruction` and `answer`.
        tokenizer: The model's.
        options: Template and maximum length.

    Returns:
        Columns `ids`, `length`, `answer_start` and `truncated`.
    """
    prompts = render(options.template, batch["instruction"], tokenizer)
    tokenized = tokenize_prompts(options.template, [p.text for p in prompts], tokenizer)
    answers = _tokenize_answers(batch["answer"], tokenizer)
    columns: dict[str, list[Any]] = {
        "ids": [], "length": [], "answer_start": [], "truncated": [],
    }  # fmt: skip
    for rendered, prompt_ids, answer in zip(prompts, tokenized, answers, strict=True):
        limit = options.max_length - len(answer) - 1
        kept = prompt_ids if len(prompt_ids) <= limit else None
        if kept is None and options.too_long == "truncate":
            kept = truncate_prompt(rendered, len(prompt_ids), limit, tokenizer, options.template)
        if kept is not None:
            columns["ids"].append([*kept, *answer, options.end])
            columns["length"].append(len(columns["ids"][-1]))
            columns["answer_start"].append(len(kept))
            columns["truncated"].append(len(prompt_ids) > limit)
    return columns


def truncate_prompt(
    prompt: Rendered, length: int, limit: int, tokenizer: Tokenizer, template: str
) -> list[int] | None:
    """Token ids of the prompt with the end of its instruction removed.

    Args:
        prompt: The rendered prompt.
        length: Its length in tokens.
        limit: Maximum length in tokens.
        tokenizer: The model's.
        template: `alpaca`, `chat` or `plain`.

    Returns:
        At most `limit` ids, or None if no token of the instruction would remain.
    """
    ends = _token_ends(prompt.instruction, tokenizer, template)
    keep = len(ends) - (length - limit)
    while keep > 0:
        instruction = prompt.instruction[: ends[keep - 1]]
        if not instruction.strip():
            return None
        shorter = prompt.with_instruction(instruction).text
        (ids,) = tokenize_prompts(template, [shorter], tokenizer)
        if len(ids) <= limit:
            return ids
        keep -= len(ids) - limit  # tokens can merge differently at the cut
    return None


def _token_ends(text: str, tokenizer: Tokenizer, template: str) -> Sequence[int]:
    """Number of characters up to the end of each token; every character if offsets are unknown."""
    if not tokenizer.is_fast:
        return range(1, len(text) + 1)
    encoding = tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=template != "chat",
        return_offsets_mapping=True,
        verbose=False,
    )
    return [end for _, end in encoding["offset_mapping"]]


def _tokenize_answers(answers: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    if not answers:
        return []
    encoding = tokenizer(
        list(answers), add_special_tokens=False, split_special_tokens=True, verbose=False
    )
    return encoding["input_ids"]
