"""Texts as points: the mean of a model's last hidden states over their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from alps.data.encoding.encode import answer_ids
from alps.data.example import Example
from alps.data.template import prompt

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""


@dataclass(frozen=True)
class TokenizedTexts:
    """Rows as token ids, and how many were longer than allowed."""

    ids: list[list[int]]
    num_cut: int


def tokenize_texts(
    examples: Sequence[Example], tokenizer: Tokenizer, template: str, text: str, max_length: int
) -> TokenizedTexts:
    """Token ids of what is embedded.

    Args:
        examples: Rows.
        tokenizer: The model's.
        template: As in training.
        text: `row` is prompt, answer and end of text, as trained; `instruction` is the prompt.
        max_length: Tokens after which a row is cut at its end, whatever `data.too_long` says.
    """
    ids = []
    for example in examples:
        row = list(prompt(template, example.instruction, tokenizer))
        if text == "row":
            row += [*answer_ids(example.answer, tokenizer), tokenizer.eos_token_id]
        ids.append(row)
    return TokenizedTexts(
        [row[:max_length] for row in ids], sum(len(row) > max_length for row in ids)
    )


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Rows that go through the model together: similar lengths, so that there is little padding.

    Args:
        lengths: Tokens of each row.
        batch_tokens: Most tokens of a batch, padding included; a longer row stands alone.

    Returns:
        Positions in `lengths`, longest first: what does not fit in memory fails at once.
    """
    found: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[found[-1][0]] if found else 0
        if not found or longest * (len(found[-1]) + 1) > batch_tokens:
            found.append([])
        found[-1].append(row)
    return found


def masked_mean(
    hidden: Float[Tensor, "rows length d"], lengths: Int[Tensor, " rows"]
) -> Float[Tensor, "rows d"]:
    """Mean over the real tokens of rows that are padded on the right, in float32."""
    real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    total = hidden.float().masked_fill(~real[..., None], 0.0).sum(dim=1)
    return total / lengths[:, None]


@torch.inference_mode()
def mean_pooled(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    pad: int,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> Float[Tensor, "rows d"]:
    """Mean of the last hidden states (after the final norm) of each row's tokens, on the CPU.

    Padding is on the right and attention is causal, so no real token sees it and no mask is needed.

    Args:
        model: Causal language model.
        rows: Token ids; none empty.
        pad: Id that fills short rows.
        batch_tokens: As in `batches_by_length`.
        progress: Told after each batch.
    """
    decoder: Any = model.get_decoder()
    device = next(model.parameters()).device
    pooled: Tensor | None = None
    done = 0
    for batch in batches_by_length([len(row) for row in rows], batch_tokens):
        lengths = [len(rows[i]) for i in batch]
        longest = max(lengths)
        ids = [[*rows[i], *[pad] * (longest - len(rows[i]))] for i in batch]
        output = decoder(input_ids=torch.tensor(ids, device=device), use_cache=False)
        means = masked_mean(output.last_hidden_state, torch.tensor(lengths, device=device)).cpu()
        if pooled is None:
            pooled = means.new_empty(len(rows), means.shape[1])
        pooled[batch] = means
        done += len(batch)
        if progress:
            progress(done, len(rows))
    assert pooled is not None, "no rows"
    return pooled
