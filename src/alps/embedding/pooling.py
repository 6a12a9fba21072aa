"""Mean-pooled embeddings: a model's last hidden states averaged over the tokens of a text."""

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
"""Called with the number of finished and of all texts."""


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of texts, and the number of truncated texts."""

    ids: list[list[int]]
    num_cut: int


def tokenize_texts(
    examples: Sequence[Example], tokenizer: Tokenizer, template: str, text: str, max_length: int
) -> TokenizedTexts:
    """Token ids of the texts to embed.

    Args:
        examples: Training examples.
        tokenizer: The model's tokenizer.
        template: Prompt template, as in training.
        text: `row` is prompt, answer and end of text, as in training; `instruction` is the prompt.
        max_length: Maximum number of tokens; longer texts are truncated at their end, regardless of
            `data.too_long`.
    """
    all_ids = []
    for example in examples:
        ids = list(prompt(template, example.instruction, tokenizer))
        if text == "row":
            ids += [*answer_ids(example.answer, tokenizer), tokenizer.eos_token_id]
        all_ids.append(ids)
    return TokenizedTexts(
        [ids[:max_length] for ids in all_ids], sum(len(ids) > max_length for ids in all_ids)
    )


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Batches of texts of similar length, to reduce padding.

    Args:
        lengths: Tokens of each text.
        batch_tokens: Maximum number of tokens in a batch with padding; longer texts stand alone.

    Returns:
        Indices into `lengths`, longest first, so that running out of memory shows at once.
    """
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[found[-1][0]] if found else 0
        if not found or longest * (len(found[-1]) + 1) > batch_tokens:
            found.append([])
        found[-1].append(index)
    return found


def masked_mean(
    hidden: Float[Tensor, "batch length d"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch d"]:
    """Mean over non-padding tokens in float32, with padding on the right."""
    real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    total = hidden.float().masked_fill(~real[..., None], 0.0).sum(dim=1)
    return total / lengths[:, None]


@torch.inference_mode()
def mean_pooled(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    pad: int,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> Float[Tensor, "n d"]:
    """Mean of the last hidden states (after the final norm) over the tokens of each text, on CPU.

    Padding is on the right and attention is causal, so no mask is needed.

    Args:
        model: Causal language model.
        texts: Token ids of each text; none empty.
        pad: Padding id.
        batch_tokens: As in `batches_by_length`.
        progress: Called after each batch.
    """
    decoder: Any = model.get_decoder()
    device = next(model.parameters()).device
    pooled: Tensor | None = None
    done = 0
    for batch in batches_by_length([len(ids) for ids in texts], batch_tokens):
        lengths = [len(texts[i]) for i in batch]
        longest = max(lengths)
        ids = [[*texts[i], *[pad] * (longest - len(texts[i]))] for i in batch]
        output = decoder(input_ids=torch.tensor(ids, device=device), use_cache=False)
        means = masked_mean(output.last_hidden_state, torch.tensor(lengths, device=device)).cpu()
        if pooled is None:
            pooled = means.new_empty(len(texts), means.shape[1])
        pooled[batch] = means
        done += len(batch)
        if progress:
            progress(done, len(texts))
    assert pooled is not None, "no texts"
    return pooled
