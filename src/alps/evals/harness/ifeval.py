"""IFEval: instructions that a program can verify."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alps.evals.context import BenchmarkResult, EvaluationContext
from alps.evals.harness.benchmark import DocumentMetric, HarnessTask, Sample, metric_ratio
from alps.evals.statistics import Ratio

PUNKT = "tokenizers/punkt_tab/english"


@dataclass(frozen=True, kw_only=True)
class IFEval(HarnessTask):
    """Prompt and instruction accuracy, strict and loose; the headline is their mean (Table 7)."""

    def ready(self, data_dir: Path | None) -> None:
        """Also requires NLTK's tokenizer, which lm-eval would miss only after generation."""
        super().ready(data_dir)
        if not has_punkt(data_dir):
            raise ValueError(
                f"{self.name} needs NLTK's punkt_tab: run `python -m nltk.downloader punkt_tab`, "
                "or set NLTK_DATA to a folder that has it, or put it into "
                "<evals.data_dir>/nltk_data/tokenizers"
            )

    def fetch(self, data_dir: Path | None) -> str | None:
        """Downloads documents and tokenizer."""
        documents = super().fetch(data_dir)
        if not has_punkt(data_dir):
            import nltk

            if not nltk.download("punkt_tab", quiet=True) or not has_punkt(data_dir):
                raise ValueError(
                    f"NLTK's punkt_tab, which {self.name} needs, cannot be downloaded: "
                    "put it into <evals.data_dir>/nltk_data/tokenizers"
                )
        return f"{documents}, NLTK's punkt_tab"

    def evaluate(self, context: EvaluationContext) -> BenchmarkResult | None:
        """Runs the task."""
        if not has_punkt(context.data_dir):  # a caller may have skipped `ready`
            self.ready(context.data_dir)
        return super().evaluate(context)

    @contextmanager
    def environment(self, data_dir: Path | None) -> Iterator[None]:
        """NLTK's search path with our folders, and a seed for the language detection."""
        import nltk
        from langdetect import DetectorFactory

        path, seed = nltk.data.path, DetectorFactory.seed
        try:
            nltk.data.path, DetectorFactory.seed = _nltk_path(data_dir), 0
            yield
        finally:
            nltk.data.path, DetectorFactory.seed = path, seed

    def supports_aggregation(self, aggregation: Callable) -> bool:
        """Also instruction accuracy."""
        mean = super().supports_aggregation(aggregation)
        return mean or aggregation.__name__ == "agg_inst_level_acc"

    def document_metrics(self, samples: Sequence[Sample]) -> Mapping[str, DocumentMetric]:
        """The mean of the four accuracies, and the four.

        Prompt accuracy is a mean over prompts. Instruction accuracy is the number of followed
        instructions over the number of instructions, both summed over prompts.
        """
        metrics = {}
        for name, key in self.metrics.items():
            scores = [s[key.partition(",")[0]] for s in samples]
            by_instruction = isinstance(scores[0], list)
            ratio = _instruction_accuracy(scores) if by_instruction else metric_ratio(samples, key)
            metrics[name] = DocumentMetric([ratio], key=key)
        mean = DocumentMetric([ratio for metric in metrics.values() for ratio in metric.ratios])
        return {"mean_accuracy": mean, **metrics}


def _instruction_accuracy(followed: Sequence[Sequence[bool]]) -> Ratio:
    return Ratio([sum(each) for each in followed], [len(each) for each in followed])


def _nltk_path(data_dir: Path | None) -> list[str]:
    """NLTK's folders, those of `NLTK_DATA` even if set after NLTK's import, and `data_dir`'s."""
    import nltk

    variable = [path for path in os.environ.get("NLTK_DATA", "").split(os.pathsep) if path]
    own = [str(data_dir / "nltk_data")] if data_dir else []
    return [*dict.fromkeys([*nltk.data.path, *variable, *own])]


def has_punkt(data_dir: Path | None) -> bool:
    """Whether NLTK's sentence tokenizer is on its search path or below `evals.data_dir`."""
    import nltk

    try:
        nltk.data.find(PUNKT, paths=_nltk_path(data_dir))
    except LookupError:
        return False
    return True
