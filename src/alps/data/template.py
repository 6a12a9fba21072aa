"""How an instruction becomes a prompt. The answer follows the prompt directly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from alps.data.example import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
"""The paper's Table 9."""

PLAIN = "{instruction}\n"
CHUNK_ROWS = 1024
CHUNK_CHARACTERS = 2**20
_MARK = "\x01instruction\x01"  # no row has this, and no template strips it


class Rendered(NamedTuple):
    """A prompt as text; `instruction` is the part that may be cut short, if it is too long.

    It is empty where a chat template changed the instruction, so that it cannot be told apart.
    """

    before: str
    instruction: str
    after: str

    @property
    def text(self) -> str:
        """The whole prompt."""
        return f"{self.before}{self.instruction}{self.after}"

    def with_instruction(self, instruction: str) -> Rendered:
        """The prompt of another instruction."""
        return self._replace(instruction=instruction)


Chunk = list[tuple[Rendered, str]]
"""Rendered prompts with their answers."""


def render(template: str, instructions: Sequence[str], tokenizer: Tokenizer) -> list[Rendered]:
    """The prompts of some instructions.

    Raises:
        ValueError: If the model has no chat template but one is asked for.
    """
    if template == "chat":
        before, _, after = _chat([_MARK], tokenizer)[0].partition(_MARK)
        texts = _chat(instructions, tokenizer)
        pairs = zip(texts, instructions, strict=True)
        return [_told_apart(text, instruction, before, after) for text, instruction in pairs]
    before, _, after = (ALPACA if template == "alpaca" else PLAIN).partition("{instruction}")
    return [Rendered(before, instruction, after) for instruction in instructions]


def chunks(examples: Iterable[Example], tokenizer: Tokenizer, template: str) -> Iterator[Chunk]:
    """Rendered rows in their order, a bounded number of characters at a time."""
    rest = iter(examples)
    while some := list(_up_to(CHUNK_CHARACTERS, islice(rest, CHUNK_ROWS))):
        prompts = render(template, [example.instruction for example in some], tokenizer)
        yield list(zip(prompts, (example.answer for example in some), strict=True))


def _up_to(characters: int, examples: Iterator[Example]) -> Iterator[Example]:
    for example in examples:
        yield example
        characters -= len(example.instruction) + len(example.answer)
        if characters <= 0:
            return


def prompt(template: str, instruction: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of the prompt, with the tokenizer's own beginning-of-text token once.

    Raises:
        ValueError: If the model has no chat template but one is asked for.
    """
    return prompt_ids(template, render(template, [instruction], tokenizer)[0].text, tokenizer)


def prompt_ids(template: str, text: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a rendered prompt: in training, in likelihoods and where answers are generated.

    Args:
        template: `alpaca`, `chat` or `plain`.
        text: The prompt.
        tokenizer: The model's.
    """
    if template == "chat":
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # it writes its own
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]  # a "</s>" in a row is text
    return open_ended(ids, tokenizer.eos_token_id)


def open_ended(ids: list[int], end: Any) -> list[int]:
    """A prompt without the end-of-text token with which some tokenizers close every text.

    Args:
        ids: Token ids.
        end: The end-of-text token.
    """
    return ids[:-1] if ids and ids[-1] == end else ids


def _chat(instructions: Sequence[str], tokenizer: Tokenizer) -> list[str]:
    if not tokenizer.chat_template:
        raise ValueError("data.template=chat, but this model's tokenizer has no chat template")
    turns = [[{"role": "user", "content": instruction}] for instruction in instructions]
    texts = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def _told_apart(text: str, instruction: str, before: str, after: str) -> Rendered:
    """Finds the instruction in a chat prompt; templates write it as it is, or stripped."""
    for written in (instruction, instruction.strip()):
        if text == f"{before}{written}{after}":
            return Rendered(before, written, after)
    return Rendered(text, "", "")
