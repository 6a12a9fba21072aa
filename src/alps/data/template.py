"""Prompt templates. The answer follows the prompt directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
"""The paper's Table 9."""

PLAIN = "{instruction}\n"
_MARK = "\x01instruction\x01"  # occurs in no data, and no template strips it


class Rendered(NamedTuple):
    """A prompt as text, in three parts; `instruction` is the part that can be truncated.

    It is empty if a chat template changed the instruction, which cannot be located then.
    """

    before: str
    instruction: str
    after: str

    @property
    def text(self) -> str:
        """The whole prompt."""
        return f"{self.before}{self.instruction}{self.after}"

    def with_instruction(self, instruction: str) -> Rendered:
        """The same prompt with another instruction."""
        return self._replace(instruction=instruction)


def render(template: str, instructions: Sequence[str], tokenizer: Tokenizer) -> list[Rendered]:
    """Prompts of instructions.

    Raises:
        ValueError: If `template` is `chat` and the tokenizer has no chat template.
    """
    if template == "chat":
        before, _, after = _chat([_MARK], tokenizer)[0].partition(_MARK)
        texts = _chat(instructions, tokenizer)
        pairs = zip(texts, instructions, strict=True)
        return [
            _locate_instruction(text, instruction, before, after) for text, instruction in pairs
        ]
    before, _, after = (ALPACA if template == "alpaca" else PLAIN).partition("{instruction}")
    return [Rendered(before, instruction, after) for instruction in instructions]


def prompt(template: str, instruction: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of the prompt, with the tokenizer's own beginning-of-text token once.

    Raises:
        ValueError: If `template` is `chat` and the tokenizer has no chat template.
    """
    return prompt_ids(template, render(template, [instruction], tokenizer)[0].text, tokenizer)


def prompt_ids(template: str, text: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of one rendered prompt."""
    return tokenize_prompts(template, [text], tokenizer)[0]


def tokenize_prompts(template: str, texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids of rendered prompts, the same for training, likelihoods and generation.

    Args:
        template: `alpaca`, `chat` or `plain`.
        texts: Rendered prompts.
        tokenizer: The model's.
    """
    if not texts:
        return []
    if template == "chat":  # writes its own special tokens
        return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    # With `split_special_tokens`, a "</s>" in an instruction is text.
    encoding = tokenizer(list(texts), split_special_tokens=True, verbose=False)
    return [open_ended(ids, tokenizer.eos_token_id) for ids in encoding["input_ids"]]


def open_ended(ids: list[int], end: Any) -> list[int]:
    """A prompt without the end-of-text token that some tokenizers append to every text.

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


def _locate_instruction(text: str, instruction: str, before: str, after: str) -> Rendered:
    """Splits a chat prompt; templates write the instruction unchanged or stripped."""
    for written in (instruction, instruction.strip()):
        if text == f"{before}{written}{after}":
            return Rendered(before, written, after)
    return Rendered(text, "", "")
