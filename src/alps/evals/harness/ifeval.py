"""IFEval: instructions whose keeping a program can check."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alps.evals.context import BenchmarkResult, EvaluationContext
from alps.evals.harness.benchmark import HarnessTask, Measure, Sample, column
from alps.evals.statistics import Part

PUNKT = "tokenizers/punkt_tab/english"


@dataclass(frozen=True, kw_only=True)
class IFEval(HarnessTask):
    """Prompt and instruction accuracy, strict and loose; their mean, as in the paper, is first."""

    def ready(self, data_dir: Path | None) -> None:
        """Also asks for NLTK's tokenizer, which the harness misses only after all generation."""
        super().ready(data_dir)
        if not _has_punkt(data_dir):
            raise ValueError(
                f"{self.name} needs NLTK's punkt_tab: run `python -m nltk.downloader punkt_tab`, "
                "or set NLTK_DATA to a folder that has it, or put it into "
                "<evals.data_dir>/nltk_data/tokenizers"
            )

    def fetch(self, data_dir: Path | None) -> str | None:
        """Gets documents and tokenizer."""
        found = super().fetch(data_dir)
        if not _has_punkt(data_dir):
            import nltk

            if not nltk.download("punkt_tab", quiet=True) or not _has_punkt(data_dir):
                raise ValueError(
                    f"NLTK's punkt_tab, which {self.name} needs, cannot be downloaded: "
                    "put it into <evals.data_dir>/nltk_data/tokenizers"
                )
        return f"{found}, NLTK's punkt_tab"

    def evaluate(self, subject: EvaluationContext) -> BenchmarkResult | None:
        """Runs the task with a language detection that gives the same answer every time."""
        if not _has_punkt(subject.data_dir):  # also where a process did not ask `ready`
            self.ready(subject.data_dir)
        from langdetect import DetectorFactory

        DetectorFactory.seed = 0
        return super().evaluate(subject)

    def computes(self, aggregation: Callable) -> bool:
        """Also the share of kept instructions."""
        return super().computes(aggregation) or aggregation.__name__ == "agg_inst_level_acc"

    def measures(self, samples: Sequence[Sample]) -> Mapping[str, Measure]:
        """The mean of the four accuracies, and the four.

        Prompt accuracy is a mean over prompts; instruction accuracy is the kept instructions of all
        prompts over all instructions.
        """
        each = {}
        for name, key in self.metrics.items():
            lists = [s[key.partition(",")[0]] for s in samples]
            part = column(samples, key) if not isinstance(lists[0], list) else _share(lists)
            each[name] = Measure([part], key=key)
        mean = Measure([part for measure in each.values() for part in measure.parts])
        return {"mean_accuracy": mean, **each}


def _share(kept: Sequence[Sequence[bool]]) -> Part:
    return Part([sum(each) for each in kept], [len(each) for each in kept])


def _has_punkt(data_dir: Path | None) -> bool:
    """Whether NLTK finds its tokenizer, in its own folders or below `data_dir`."""
    import nltk

    own = [str(data_dir / "nltk_data")] if data_dir else []
    # a variable set after nltk's import counts, too
    given = [path for path in os.environ.get("NLTK_DATA", "").split(os.pathsep) if path]
    nltk.data.path.extend(p for p in (*given, *own) if p not in nltk.data.path)
    try:
        nltk.data.find(PUNKT)
    except LookupError:
        return False
    return True
