"""Input and result of a benchmark's evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alps.base.progress import ProgressMode
from alps.settings.infrastructure import EvaluationPrecision
from alps.settings.interfaces import Protocol, Source

if TYPE_CHECKING:
    from torch import nn

    from alps.evals.engine.language_model import LanguageModel
    from alps.models.load import Tokenizer

Backend = Literal["hf", "vllm"]


@dataclass
class GenerationCounts:
    """Cost of answering on one rank, without answers reused from an earlier attempt.

    Attributes:
        seconds: Wall time.
        num_answers: Answered requests.
        num_tokens: Generated tokens.
    """

    seconds: float = 0.0
    num_answers: int = 0
    num_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class EvaluationContext:
    """A model to evaluate, and how to query it.

    Attributes:
        model: In evaluation mode, on its device; each rank has its own copy.
        tokenizer: The model's.
        data: The run's data. Its template formats the prompts; its examples are for benchmarks with
            `reads_data`.
        batch_size: Prompts or examples per batch, or `auto`.
        folder: Folder for the answers and samples of the current benchmark.
        weights: Fingerprint of the weights; answers of other weights are not reused.
        data_dir: Folder with local documents, or None for the hub's.
        backend: Inference engine: `hf`, or `vllm` on the folder `checkpoint`.
        precision: Of the model and its matrix products.
        checkpoint: The model as a folder in the format of transformers.
        progress: How progress is shown.
        allow_unsafe_code: Run generated code unprotected where there is no sandbox.
        counts: Counters of the generation cost.
        build_language_model: Builds the language model of a context, a protocol and a title.
    """

    model: nn.Module
    tokenizer: Tokenizer
    data: Source
    batch_size: int | Literal["auto"]
    folder: Path
    weights: str
    data_dir: Path | None = None
    backend: Backend = "hf"
    precision: EvaluationPrecision = "32"
    checkpoint: Path | None = None
    progress: ProgressMode = "off"
    allow_unsafe_code: bool = False
    counts: GenerationCounts = field(default_factory=GenerationCounts)
    build_language_model: Callable[[EvaluationContext, Protocol, str], LanguageModel] = field(
        repr=False
    )

    def language_model(self, protocol: Protocol, title: str) -> LanguageModel:
        """The model behind lm-eval's interface, which gathers over ranks and caches answers.

        Each answer is appended to `folder/answers.<rank>.jsonl`; recorded answers are not computed
        again.

        Args:
            protocol: How its chat template writes a question.
            title: Title of the progress bar.
        """
        return self.build_language_model(self, protocol, title)


@dataclass(frozen=True)
class Uncertainty:
    """Uncertainty of a metric.

    Attributes:
        stderr: Standard error.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    stderr: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """Result of one benchmark.

    Attributes:
        metrics: Name -> value; the first is the headline.
        uncertainty: Metric -> its uncertainty, where one is defined.
        num_documents: Number of scored documents.
        details: Further JSON values: versions, scores of subsets.
    """

    metrics: Mapping[str, float]
    uncertainty: Mapping[str, Uncertainty] = field(default_factory=dict)
    num_documents: int
    details: Mapping[str, Any] = field(default_factory=dict)


NOT_A_NUMBER = "the model computes NaN: its weights hold NaN or infinity, or are not all there"


def context_overflow_reason(max_new_tokens: int | None, context: int | None) -> str | None:
    """Why answers of this length do not fit the model's context, or None if they do.

    Args:
        max_new_tokens: Longest answer of a benchmark, or None if it generates nothing.
        context: The model's context in tokens, or None if unknown.
    """
    if max_new_tokens is None or context is None or max_new_tokens < context:
        return None
    return (
        f"answers of up to {max_new_tokens} tokens leave no room for a prompt in the model's "
        f"context of {context} tokens: max_new_tokens must be smaller"
    )
