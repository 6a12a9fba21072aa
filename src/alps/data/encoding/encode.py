"""Rows as token ids, with the prompt told apart from the answer.

`encode_row` says what a row becomes. `encode_chunk` gives the same for many rows at once, through
the tokenizer's own batches, and cuts what is too long. Nothing here imports torch or transformers:
a process that encodes (`encode_pool`) is there in no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Int

from alps.data.example import Example, Tally
from alps.data.template import Chunk, Rendered, chunks, open_ended, prompt, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

TooLong = Literal["truncate", "drop"]


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of prompt, answer and end-of-text; the loss sees those from `answer_start` on."""

    ids: list[int]
    answer_start: int

    @property
    def num_answer_tokens(self) -> int:
        """Answer tokens, end-of-text included."""
        return len(self.ids) - self.answer_start


class Rule(NamedTuple):
    """How rows are encoded, whatever the tokenizer.

    Attributes:
        template: `alpaca`, `chat` or `plain`.
        end: The end-of-text token.
        max_length: Longest row in tokens.
        too_long: What happens to longer ones.
        wide: Whether ids need 32 bits.
    """

    template: str
    end: int
    max_length: int
    too_long: TooLong
    wide: bool


class EncodedChunk(NamedTuple):
    """The rows of a chunk behind each other, and how many were cut or left out."""

    ids: Int[np.ndarray, " tokens"]
    lengths: Int[np.ndarray, " rows"]
    answer_starts: Int[np.ndarray, " rows"]
    num_truncated: int
    num_dropped: int


class FastCoder:
    """A tokenizer of the `tokenizers` library, from its JSON.

    With `encode_special_tokens`, a "</s>" in a row is text, not the end of it. A chat template
    writes special tokens itself, so there they are what they say.
    """

    def __init__(self, backend: str, rule: Rule, in_batches: bool):
        """Makes a tokenizer of its own.

        Args:
            backend: What `tokenizers.Tokenizer.to_str()` gave.
            rule: Template and end-of-text token.
            in_batches: Whether to use the library's batches, which are for worker processes: in a
                process that forks later, its threads would complain.
        """
        self.tokenizer = tokenizers.Tokenizer.from_str(backend)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.rule, self.in_batches = rule, in_batches

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Rendered prompts, with the tokens that the tokenizer adds before a text."""
        if self.rule.template == "chat":
            return self._encode(texts, add=False, special_is_text=False)
        found = self._encode(texts, add=True, special_is_text=True)
        return [open_ended(ids, self.rule.end) for ids in found]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Answers, without added tokens."""
        return self._encode(texts, add=False, special_is_text=True)

    def ends(self, text: str) -> Sequence[int]:
        """Characters before the end of each token."""
        self.tokenizer.encode_special_tokens = self.rule.template != "chat"
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return [end for _, end in offsets]

    def _encode(self, texts: Sequence[str], add: bool, special_is_text: bool) -> list[list[int]]:
        self.tokenizer.encode_special_tokens = special_is_text
        if self.in_batches:
            found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=add)
        else:
            found = (self.tokenizer.encode(text, add_special_tokens=add) for text in texts)
        return [encoding.ids for encoding in found]


class SlowCoder:
    """Any other tokenizer, one row at a time."""

    def __init__(self, tokenizer: Tokenizer, template: str):
        """Uses the tokenizer itself."""
        self.tokenizer, self.template = tokenizer, template

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Rendered prompts, as `encode_row` has them."""
        return [prompt_ids(self.template, text, self.tokenizer) for text in texts]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Answers, as `encode_row` has them."""
        return [answer_ids(text, self.tokenizer) for text in texts]

    def ends(self, text: str) -> Sequence[int]:
        """Every character: where tokens end is not known."""
        return range(1, len(text) + 1)


Coder = FastCoder | SlowCoder


def encode_row(example: Example, tokenizer: Tokenizer, template: str) -> EncodedRow:
    """One row; the answer ends in the end-of-text token, which is learned too."""
    ids = prompt(template, example.instruction, tokenizer)
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    return EncodedRow([*ids, *answer_ids(example.answer, tokenizer), end], len(ids))


def answer_ids(answer: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of an answer; with `split_special_tokens` a "</s>" in it is text, not its end."""
    return tokenizer(answer, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def encode(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    template: str,
    max_length: int,
    too_long: TooLong = "truncate",
) -> tuple[list[EncodedRow], Tally]:
    """Rows in memory, for a few of them, and how many were left out as too long."""
    rule = rule_of(tokenizer, template, max_length, too_long)
    coder = local_coder(tokenizer, rule)
    rows, tally = [], Tally()
    for chunk in chunks(examples, tokenizer, template):
        done = encode_chunk(coder, chunk, rule)
        stops = np.cumsum(done.lengths)
        for stop, length, start in zip(stops, done.lengths, done.answer_starts, strict=True):
            rows.append(EncodedRow(done.ids[stop - length : stop].tolist(), int(start)))
        tally += Tally({"too long": done.num_dropped})
    return rows, tally


def rule_of(tokenizer: Tokenizer, template: str, max_length: int, too_long: TooLong) -> Rule:
    """The rule for a tokenizer, which must have an end-of-text token."""
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    wide = max(tokenizer.get_vocab().values()) >= 2**16
    return Rule(template, end, max_length, too_long, wide)


def local_coder(tokenizer: Tokenizer, rule: Rule) -> Coder:
    """A coder for this process."""
    if tokenizer.is_fast:
        return FastCoder(backend_of(tokenizer), rule, in_batches=False)
    return SlowCoder(tokenizer, rule.template)


def backend_of(tokenizer: Any) -> str:
    """A fast tokenizer's JSON."""
    return tokenizer.backend_tokenizer.to_str()


def encode_chunk(coder: Coder, chunk: Chunk, rule: Rule) -> EncodedChunk:
    """The rows of a chunk; those that are too long are cut or left out."""
    prompts = coder.prompts([rendered.text for rendered, _ in chunk])
    answers = coder.answers([answer for _, answer in chunk])
    ids: list[int] = []
    lengths: list[int] = []
    starts: list[int] = []
    num_truncated = num_dropped = 0
    for (rendered, _), asked, answer in zip(chunk, prompts, answers, strict=True):
        room = rule.max_length - len(answer) - 1
        if len(asked) > room:
            cut = shortened(coder, rendered, len(asked), room) if rule.too_long != "drop" else None
            if cut is None:
                num_dropped += 1
                continue
            asked = cut
            num_truncated += 1
        ids += asked
        ids += answer
        ids.append(rule.end)
        lengths.append(len(asked) + len(answer) + 1)
        starts.append(len(asked))
    dtype = np.uint32 if rule.wide else np.uint16
    return EncodedChunk(
        np.array(ids, dtype=dtype),
        np.array(lengths, dtype=np.int64),
        np.array(starts, dtype=np.int64),
        num_truncated,
        num_dropped,
    )


def shortened(coder: Coder, prompt: Rendered, length: int, room: int) -> list[int] | None:
    """The prompt with the end of its instruction cut off, so that it has at most `room` tokens.

    Args:
        coder: The tokenizer.
        prompt: The prompt.
        length: Its tokens.
        room: Tokens there are for it.

    Returns:
        Token ids, or None if not one token of the instruction would stay.
    """
    ends = coder.ends(prompt.instruction)
    keep = len(ends) - (length - room)
    while keep > 0:
        instruction = prompt.instruction[: ends[keep - 1]]
        if not instruction.strip():
            return None
        (ids,) = coder.prompts([prompt.with_instruction(instruction).text])
        if len(ids) <= room:
            return ids
        keep -= len(ids) - room  # tokens can merge otherwise where the text was cut
    return None
