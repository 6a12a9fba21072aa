"""How an instruction becomes a prompt. The answer follows the prompt directly."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
"""The paper's Table 9."""


def prompt(template: str, instruction: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of the prompt, with the tokenizer's own beginning-of-text token once.

    Raises:
        ValueError: If the model has no chat template but one is asked for.
    """
    if template == "chat":
        if not tokenizer.chat_template:
            raise ValueError("data.template=chat, but this model's tokenizer has no chat template")
        turns = [{"role": "user", "content": instruction}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # it writes its own
    text = ALPACA.format(instruction=instruction) if template == "alpaca" else f"{instruction}\n"
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]  # a "</s>" in a row is text
    return ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids  # some tokenizers close a text
