"""What a benchmark is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alps.families import Source

if TYPE_CHECKING:
    from torch import nn

    from alps.models.load import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model under examination.

    Attributes:
        model: In evaluation mode, on its device.
        tokenizer: The model's.
        data: The run's data: its template asks the questions, its test split is held out.
        batch_size: Prompts or rows side by side.
    """

    model: nn.Module
    tokenizer: Tokenizer
    data: Source
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """What came out of one benchmark.

    Attributes:
        metrics: Name -> value.
        num_documents: Documents judged.
        samples: One mapping for each document: what was asked, answered and judged.
    """

    metrics: Mapping[str, float]
    num_documents: int
    samples: Sequence[Mapping[str, Any]] = ()
