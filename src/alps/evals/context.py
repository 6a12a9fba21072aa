"""What a benchmark is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alps.base.progress import ProgressMode
from alps.settings.interfaces import Protocol, Source

if TYPE_CHECKING:
    from torch import nn

    from alps.evals.engine.language_model import LanguageModel
    from alps.models.load import Tokenizer

Backend = Literal["hf", "vllm"]


@dataclass
class GenerationCounts:
    """What answering took on one rank; answers from an earlier attempt don't count.

    Attributes:
        seconds: Wall time.
        num_answers: Requests answered.
        num_tokens: Tokens of generated answers.
    """

    seconds: float = 0.0
    num_answers: int = 0
    num_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class EvaluationContext:
    """A model under examination.

    Attributes:
        model: In evaluation mode, on its device. With several ranks each has one.
        tokenizer: The model's.
        data: The run's data: its template asks the questions; its rows are for benchmarks that say
            so (`reads_data`).
        batch_size: Prompts or rows side by side, or `auto`.
        folder: Where the benchmark at hand keeps answers and samples.
        weights: Hash of what the model is; answers of other weights are not taken for its own.
        data_dir: Documents as local files, or None for the hub's.
        backend: What generates: `hf`, or `vllm` from the folder `checkpoint`.
        checkpoint: The model as a folder that other programs load.
        progress: How it is shown.
        allow_unsafe_code: Where there is no sandbox, run generated code without.
        work: Counts what answering takes.
        engine: Makes the language model of this context, a protocol and a title.
    """

    model: nn.Module
    tokenizer: Tokenizer
    data: Source
    batch_size: int | Literal["auto"]
    folder: Path
    weights: str
    data_dir: Path | None = None
    backend: Backend = "hf"
    checkpoint: Path | None = None
    progress: ProgressMode = "off"
    allow_unsafe_code: bool = False
    work: GenerationCounts = field(default_factory=GenerationCounts)
    engine: Callable[[EvaluationContext, Protocol, str], LanguageModel] = field(repr=False)

    def language_model(self, protocol: Protocol, title: str) -> LanguageModel:
        """The model as lm-eval wants it: `generate_until`, `loglikelihood` and the ranks' gather.

        Answers are written to `folder/answers.jsonl` as they come, and what stands there is not
        asked again.

        Args:
            protocol: How its chat template writes a question.
            title: Names the work where progress is shown.
        """
        return self.engine(self, protocol, title)


@dataclass(frozen=True)
class Uncertainty:
    """How sure a metric is.

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
    """What came out of one benchmark.

    Attributes:
        metrics: Name -> value; the first is the headline.
        uncertainty: Metric -> how sure it is, for those where it was computed.
        num_documents: Documents judged.
        details: What else a reader wants to know (versions, scores of parts), as plain values.
    """

    metrics: Mapping[str, float]
    uncertainty: Mapping[str, Uncertainty] = field(default_factory=dict)
    num_documents: int
    details: Mapping[str, Any] = field(default_factory=dict)


NOT_A_NUMBER = "the model computes NaN: its weights hold NaN or infinity, or are not all there"


def context_overflow_reason(max_new_tokens: int | None, context: int | None) -> str | None:
    """Why a model cannot be asked, or None.

    Args:
        max_new_tokens: Longest answer of a benchmark, if it has answers.
        context: The model's context in tokens, if it is known.
    """
    if max_new_tokens is None or context is None or max_new_tokens < context:
        return None
    return (
        f"answers of up to {max_new_tokens} tokens leave no room for a prompt in the model's "
        f"context of {context} tokens: max_new_tokens must be smaller"
    )
