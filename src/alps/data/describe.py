"""What a dataset looks like to a model: how many rows, how long, how many cut; some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alps.base.progress import ProgressMode
from alps.data.encoding.dataset import EncodedRows, encoded_rows, most_tokens
from alps.settings.interfaces import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True, kw_only=True)
class Description:
    """Rows as they are trained on.

    Attributes:
        name: The choice of data.
        fingerprint: Content of the rows, or id and revision on the hub.
        template: How prompts are written.
        max_length: Longest sequence in tokens.
        num_rows: Training rows.
        num_tokens: Their tokens.
        num_truncated: Rows whose instruction was cut.
        left_out: Rows left out, by reason.
        lengths: Tokens of a row at `QUANTILES`.
        answers: Answer tokens of a row at `QUANTILES`, end-of-text included.
        samples: Some rows as the model reads them: prompt and answer.
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
    """Encodes the training rows (they stay in the cache) and measures them.

    Args:
        source: The rows.
        tokenizer: The model's.
        num_samples: Rows to show, evenly spread over all of them.
        progress: How an encoding that takes long is shown.
        context: The model's context in tokens.

    Raises:
        ValueError: If a row cannot be used, or none is left; one sentence.
    """
    rows = encoded_rows(source, tokenizer, progress=progress, context=context)
    return Description(
        name=source.name,
        fingerprint=source.fingerprint(),
        template=source.template,
        max_length=most_tokens(source, context),
        num_rows=len(rows),
        num_tokens=int(rows.lengths.sum()),
        num_truncated=rows.num_truncated,
        left_out=dict(rows.tally),
        lengths=_quantiles(rows.lengths),
        answers=_quantiles(rows.num_answers),
        samples=_samples(rows, tokenizer, num_samples),
    )


def _quantiles(numbers: np.ndarray) -> list[int]:
    """Of whole numbers, themselves among them."""
    return [int(n) for n in np.quantile(numbers, QUANTILES, method="inverted_cdf")]


def _samples(rows: EncodedRows, tokenizer: Tokenizer, count: int) -> list[tuple[str, str]]:
    count = min(count, len(rows))
    shown = []
    for k in range(count):
        row = rows[k * len(rows) // count]
        texts = (tokenizer.decode(part) for part in (row.ids[: row.answer_start],
                                                     row.ids[row.answer_start :]))  # fmt: skip
        prompt, answer = (str(text) for text in texts)
        shown.append((prompt, answer))
    return shown
