"""Benchmarks that lm-eval asks and judges: one task file of the harness, one YAML here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.base.hashing import digest
from alps.base.serialization import did_you_mean
from alps.evals.context import Backend, BenchmarkResult, EvaluationContext
from alps.evals.harness.documents import Place, Row, Split
from alps.evals.samples import read_samples
from alps.evals.statistics import DocumentScores, Part, uncertainty, value
from alps.settings.interfaces import Benchmark

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

Sample = Mapping[str, Any]
"""The harness's record of one document under one filter."""

LM_EVAL = "0.4.13"
SPLITS = ("test", "shots")


@dataclass(frozen=True)
class Measure:
    """How a metric follows from documents: see `alps.evals.statistics`.

    Attributes:
        parts: Ratios of sums that are averaged.
        groups: Group of each document, where groups are averaged.
        key: The harness's own name of the same number (`acc,none`), if it has it.
    """

    parts: Sequence[Part]
    groups: Sequence[str] | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class HarnessTask(Benchmark):
    """One lm-eval task: the harness writes the prompts, reads the answers and judges them.

    Attributes:
        config: The harness's task file, relative to its folder of tasks, or None.
        changes: A task file of `alps.evals.tasks` that is laid over it (or stands alone), or None.
        num_fewshot: Worked examples in the prompt.
        max_new_tokens: Longest answer, or None for tasks that generate nothing.
        metrics: Name in our tables -> the harness's metric and filter; the first is the headline.
        hub: Dataset on the hub.
        revision: Its commit.
        splits: `test`, and `shots` where worked examples are drawn from a split.
        columns: Columns that a document has.
        packages: Modules that the task imports.
    """

    config: str | None = None
    changes: str | None = None
    num_fewshot: int = 0
    max_new_tokens: int | None = None
    metrics: Mapping[str, str]
    hub: str = ""
    revision: str = ""
    splits: Mapping[str, Split] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        yield from super().problems()
        if self.protocol == "answer_tokens":
            yield f"benchmark {self.name} asks: its protocol is alpaca, plain or meta"
        if not self.config and not self.changes:
            yield f"benchmark {self.name} names no task: set config or changes"
        if not self.metrics:
            yield f"benchmark {self.name} has no metrics"
        if self.num_fewshot < 0:
            yield f"num_fewshot of benchmark {self.name} must be at least 0"
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            yield f"max_new_tokens of benchmark {self.name} must be at least 1"

    def ready(self, data_dir: Path | None) -> None:
        """Refuses missing packages, and documents that are missing, damaged or too few."""
        for package in ("lm_eval", *self.packages):
            if find_spec(package) is None:
                name = package.replace("_", "-")
                raise ValueError(f"{self.name} needs {name}: run `pip install {name}`")
        if version("lm_eval") != LM_EVAL:
            raise ValueError(
                f"{self.name} needs lm-eval {LM_EVAL}, found {version('lm_eval')}, which may ask "
                f"otherwise: run `pip install lm-eval=={LM_EVAL}`"
            )
        documents = self.documents(data_dir)
        if "shots" in documents and shots_asked(documents) == len(documents["shots"]):
            raise ValueError(
                f"the split shots of benchmark {self.name} holds documents that are asked: worked "
                "examples must come from another file"
            )

    def dry_run(self, data_dir: Path | None, backend: Backend = "hf") -> None:
        """Asks, judges and sums up a few documents with a stand-in for the model."""
        from alps.evals.harness.dry_run import dry_run

        dry_run(self, self.documents(data_dir), backend)

    def fetch(self, data_dir: Path | None) -> str | None:
        """Gets the documents, and reads them all."""
        count = len(self.documents(data_dir)["test"])
        return f"{count} documents in {data_dir or self.hub}"

    def fingerprint(self, data_dir: Path | None) -> str | None:
        """Hash of the local files, or the hub's id and revision."""
        return self._place(data_dir).fingerprint(self.splits)

    def documents(self, data_dir: Path | None) -> Mapping[str, Sequence[Row]]:
        """The rows of every split, without regard to the limit.

        Raises:
            ValueError: If they cannot be had or are not what they should be; one sentence.
        """
        for name in self.splits.keys() - SPLITS:
            raise ValueError(f"benchmark {self.name} has splits.{name}{did_you_mean(name, SPLITS)}")
        if "test" not in self.splits:
            raise ValueError(f"benchmark {self.name} needs splits.test, where the documents are")
        place = self._place(data_dir)
        return {name: place.rows(split, self.columns) for name, split in self.splits.items()}

    def limited(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The documents that are asked: the first ones."""
        return rows[: self.limit]

    def harness_task(
        self, documents: Mapping[str, Sequence[Row]], num_fewshot: int
    ) -> ConfigurableTask:
        """The harness's task over some documents.

        Args:
            documents: Rows of each split.
            num_fewshot: Worked examples in the prompt.
        """
        from alps.evals.harness.specification import TaskInMemory, specification

        return TaskInMemory(config=specification(self, documents, num_fewshot))

    def evaluate(self, subject: EvaluationContext) -> BenchmarkResult | None:
        """Runs the task, keeps every sample in the subject's folder, and sums up."""
        from alps.evals.harness.run import run
        from alps.evals.harness.samples import write_samples

        documents = dict(self.documents(subject.data_dir))
        documents["test"] = self.limited(documents["test"])
        lm = subject.language_model(self.protocol, self.name)
        found = run(self, documents, lm)
        if found is None:
            return None
        write_samples(subject.folder, self.name, found.samples)
        measures = self.measures(found.samples)
        metrics = {n: value(*m.parts, groups=m.groups) for n, m in measures.items()}
        for name, measure in measures.items():
            if measure.key is not None:  # two ways of counting must agree
                assert abs(metrics[name] - found.results[measure.key]) < 1e-9, name
        sure = {n: uncertainty(*m.parts, groups=m.groups) for n, m in measures.items()}
        return BenchmarkResult(
            metrics=metrics,
            uncertainty={name: each for name, each in sure.items() if each is not None},
            num_documents=len(documents["test"]),
            details={
                "lm_eval": version("lm_eval"),
                "task": self.config or self.changes,
                "task_version": found.version,
                "num_fewshot": self.num_fewshot,
                "shots_asked": shots_asked(documents),
                "generation": found.generation,
                "documents": self.fingerprint(subject.data_dir),
                **lm.details(),
                "harness": dict(found.results),
                **self.more_details(found.samples),
            },
        )

    def document_scores(self, folder: Path) -> DocumentScores | None:
        """From the samples, summed up as `evaluate` does."""
        samples = list(read_samples(folder, self.name))
        if not samples:
            return None
        headline = next(iter(self.measures(samples).values()))
        if any(part.is_empty for part in headline.parts):  # samples of another filter
            return None
        asked = list(dict.fromkeys((s["doc_id"], s.get("doc_hash", "")) for s in samples))
        return DocumentScores(
            pool=digest([self.name, asked]), parts=tuple(headline.parts), groups=headline.groups
        )

    def measures(self, samples: Sequence[Sample]) -> Mapping[str, Measure]:
        """How each metric follows from the samples; the first is the headline."""
        return {
            name: Measure([column(samples, key)], key=key) for name, key in self.metrics.items()
        }

    def computes(self, aggregation: Callable) -> bool:
        """Whether `measures` sums up as this function of the harness does: by the mean."""
        return (aggregation.__module__, aggregation.__name__) == ("lm_eval.api.metrics", "mean")

    def more_details(self, samples: Sequence[Sample]) -> Mapping[str, Any]:
        """What else a reader wants to know, as plain values."""
        return {}

    def _place(self, data_dir: Path | None) -> Place:
        return Place(self.name, self.hub, self.revision, data_dir)


def shots_asked(documents: Mapping[str, Sequence[Row]]) -> int:
    """How many worked examples are documents that are asked, too."""
    if "shots" not in documents:
        return 0
    asked = {digest(row) for row in documents["test"]}
    return sum(digest(row) in asked for row in documents["shots"])


def column(samples: Sequence[Sample], key: str) -> Part:
    """A metric's value of every document.

    Args:
        samples: Of all filters.
        key: The harness's metric and filter (`exact_match,strict-match`).
    """
    metric, _, name = key.partition(",")
    return Part([float(sample[metric]) for sample in samples if sample["filter"] == name])
