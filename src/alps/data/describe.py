"""Summary of an encoded dataset: number of examples, quantiles of lengths, some samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alps.base.progress import ProgressMode
from alps.data.encoding.dataset import EncodedDataset, effective_max_length, encoded_dataset
from alps.settings.interfaces import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True, kw_only=True)
class Description:
    """Summary of the training examples.

    Attributes:
        name: Name of the data.
        fingerprint: Content hash of the files, or id and revision on the hub.
        template: Prompt template.
        max_length: Maximum length in tokens.
        num_rows: Number of training examples.
        num_tokens: Their tokens.
        num_truncated: Examples whose instruction was truncated.
        left_out: Number of dropped examples by reason.
        lengths: Tokens of an example at `QUANTILES`.
        answers: Answer tokens of an example at `QUANTILES`, end-of-text included.
        samples: Decoded prompts and answers of some examples.
    """

    name: str
    fingerprint: str
    template: str
    max_length: int
    num_rows: int
    num_tokens: int
    num_truncated: int
    left_out: Mapping[str, int]
    lengths: Sequence[int]
    answers: Sequence[int]
    samples: Sequence[tuple[str, str]]


def describe(
    source: Source,
    tokenizer: Tokenizer,
    num_samples: int,
    progress: ProgressMode = "off",
    context: int | None = None,
) -> Description:
    """Encodes the training examples, which stay in the cache, and summarizes them.

    Args:
        source: The data source.
        tokenizer: The model's.
        num_samples: Number of samples, evenly spaced.
        progress: Display of a long encoding.
        context: The model's context in tokens.

    Raises:
        ValueError: If an example cannot be used, or none is left; one sentence.
    """
    dataset = encoded_dataset(source, tokenizer, progress=progress, context=context)
    return Description(
        name=source.name,
        fingerprint=source.fingerprint(),
        template=source.template,
        max_length=effective_max_length(source, context),
        num_rows=len(dataset),
        num_tokens=int(dataset.lengths.sum()),
        num_truncated=dataset.num_truncated,
        left_out=dict(dataset.dropped),
        lengths=_quantiles(dataset.lengths),
        answers=_quantiles(dataset.num_answers),
        samples=_samples(dataset, tokenizer, num_samples),
    )


def _quantiles(numbers: np.ndarray) -> list[int]:
    """Quantiles that are elements of `numbers`."""
    return [int(n) for n in np.quantile(numbers, QUANTILES, method="inverted_cdf")]


def _samples(dataset: EncodedDataset, tokenizer: Tokenizer, count: int) -> list[tuple[str, str]]:
    count = min(count, len(dataset))
    examples = (dataset[k * len(dataset) // count] for k in range(count))
    halves = ((e.ids[: e.answer_start], e.ids[e.answer_start :]) for e in examples)
    return [
        (str(tokenizer.decode(prompt)), str(tokenizer.decode(answer))) for prompt, answer in halves
    ]
