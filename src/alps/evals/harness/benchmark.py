"""Benchmarks of lm-evaluation-harness: one task file of lm-eval, one YAML here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.base.hashing import digest
from alps.base.serialization import did_you_mean
from alps.evals.context import Backend, BenchmarkResult, EvaluationContext, Uncertainty
from alps.evals.harness.documents import Document, DocumentSource, Split
from alps.evals.harness.lm_eval_internals import LM_EVAL_VERSION
from alps.evals.samples import read_samples
from alps.evals.statistics import DocumentScores, Ratio, point_estimate, uncertainty
from alps.settings.interfaces import Benchmark

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

Sample = Mapping[str, Any]
"""lm-eval's record of one document under one filter."""

SPLITS = ("test", "shots")


@dataclass(frozen=True)
class DocumentMetric:
    """A metric as a function of the documents' scores: see `alps.evals.statistics`.

    Attributes:
        ratios: Ratios over the documents, averaged.
        groups: Group of each document, if the metric averages over groups.
        key: lm-eval's metric and filter (`acc,none`) of the same number, if it computes it.
    """

    ratios: Sequence[Ratio]
    groups: Sequence[str] | None = None
    key: str | None = None

    @property
    def value(self) -> float:
        """The metric itself."""
        return point_estimate(*self.ratios, groups=self.groups)

    @property
    def uncertainty(self) -> Uncertainty | None:
        """Its uncertainty over documents, if they have a spread."""
        return uncertainty(*self.ratios, groups=self.groups)


@dataclass(frozen=True, kw_only=True)
class HarnessTask(Benchmark):
    """One lm-eval task: lm-eval formats the prompts, parses the answers and scores them.

    Attributes:
        config: lm-eval's task file, relative to its folder of tasks, or None.
        changes: Task file in `alps/evals/harness/tasks` that overrides keys of `config` or stands
            alone, or None.
        num_fewshot: Shots in the prompt.
        max_new_tokens: Longest answer, or None for tasks that generate nothing.
        metrics: Name in our tables -> lm-eval's metric and filter; the first is the headline.
        hub: Dataset on the hub.
        revision: Commit of the dataset.
        splits: `test`, and `shots` if shots are taken from a split.
        columns: Required columns of a document; others are dropped.
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
        """Refuses missing packages, and documents that are missing, damaged or incomplete."""
        for package in ("lm_eval", *self.packages):
            if find_spec(package) is None:
                name = package.replace("_", "-")
                raise ValueError(f"{self.name} needs {name}: run `pip install {name}`")
        if (installed := version("lm_eval")) != LM_EVAL_VERSION:
            raise ValueError(
                f"{self.name} needs lm-eval {LM_EVAL_VERSION}, found {installed}, which may ask "
                f"otherwise: run `pip install lm-eval=={LM_EVAL_VERSION}`"
            )
        documents = self.documents(data_dir)
        if "shots" in documents and shots_asked(documents) == len(documents["shots"]):
            raise ValueError(
                f"the split shots of benchmark {self.name} holds documents that are asked: worked "
                "examples must come from another file"
            )

    def dry_run(self, data_dir: Path | None, backend: Backend = "hf") -> None:
        """Evaluates a dummy model on a few documents."""
        from alps.evals.harness.dry_run import dry_run

        with self.environment(data_dir):
            dry_run(self, self.documents(data_dir), backend)

    def fetch(self, data_dir: Path | None) -> str | None:
        """Downloads the documents, and reads them all."""
        count = len(self.documents(data_dir)["test"])
        return f"{count} documents in {data_dir or self.hub}"

    def fingerprint(self, data_dir: Path | None) -> str | None:
        """Hash of the local files, or the hub's id and revision."""
        return self._source(data_dir).fingerprint(self.splits)

    def documents(self, data_dir: Path | None) -> Mapping[str, Sequence[Document]]:
        """All documents of every split, whatever the limit.

        Raises:
            ValueError: If they are missing, damaged or incomplete; one sentence.
        """
        for name in self.splits.keys() - SPLITS:
            raise ValueError(f"benchmark {self.name} has splits.{name}{did_you_mean(name, SPLITS)}")
        if "test" not in self.splits:
            raise ValueError(f"benchmark {self.name} needs splits.test, where the documents are")
        source = self._source(data_dir)
        return {name: source.read(split, self.columns) for name, split in self.splits.items()}

    def limited(self, documents: Sequence[Document]) -> Sequence[Document]:
        """The documents to evaluate: the first `limit`."""
        return documents[: self.limit]

    @contextmanager
    def environment(self, data_dir: Path | None) -> Iterator[None]:
        """State of other libraries on which the task's scores depend, set while it runs.

        Args:
            data_dir: `evals.data_dir`.
        """
        yield

    def harness_task(
        self, documents: Mapping[str, Sequence[Document]], num_fewshot: int
    ) -> ConfigurableTask:
        """lm-eval's task over some documents.

        Args:
            documents: Documents of each split.
            num_fewshot: Shots in the prompt.
        """
        from alps.evals.harness.task_config import InMemoryTask, task_config

        return InMemoryTask(config=task_config(self, documents, num_fewshot))

    def evaluate(self, context: EvaluationContext) -> BenchmarkResult | None:
        """Runs the task, writes every sample to the context's folder, and computes the metrics."""
        from alps.evals.harness.run import run_task
        from alps.evals.harness.samples import write_samples

        documents = dict(self.documents(context.data_dir))
        documents["test"] = self.limited(documents["test"])
        lm = context.language_model(self.protocol, self.name)
        with self.environment(context.data_dir):
            output = run_task(self, documents, lm)
        if output is None:
            return None
        write_samples(context.folder, self.name, output.samples)
        metrics = self.document_metrics(output.samples)
        for name, metric in metrics.items():
            if metric.key is not None:  # lm-eval's own number must agree
                assert abs(metric.value - output.results[metric.key]) < 1e-9, name
        spreads = {name: metric.uncertainty for name, metric in metrics.items()}
        return BenchmarkResult(
            metrics={name: metric.value for name, metric in metrics.items()},
            uncertainty={name: spread for name, spread in spreads.items() if spread is not None},
            num_documents=len(documents["test"]),
            details={
                "lm_eval": version("lm_eval"),
                "task": self.config or self.changes,
                "task_version": output.version,
                "num_fewshot": self.num_fewshot,
                "shots_asked": shots_asked(documents),
                "generation": output.generation,
                "documents": self.fingerprint(context.data_dir),
                **lm.details(),
                "harness": dict(output.results),
                **self.extra_details(output.samples),
            },
        )

    def document_scores(self, folder: Path) -> DocumentScores | None:
        """The headline by document, from the samples."""
        samples = list(read_samples(folder, self.name))
        if not samples:
            return None
        headline = next(iter(self.document_metrics(samples).values()))
        if any(ratio.is_empty for ratio in headline.ratios):  # samples of another filter
            return None
        asked = list(dict.fromkeys((s["doc_id"], s.get("doc_hash", "")) for s in samples))
        return DocumentScores(
            pool=digest([self.name, asked]), ratios=tuple(headline.ratios), groups=headline.groups
        )

    def document_metrics(self, samples: Sequence[Sample]) -> Mapping[str, DocumentMetric]:
        """Metrics of the samples, by name; the first is the headline."""
        return {
            name: DocumentMetric([metric_ratio(samples, key)], key=key)
            for name, key in self.metrics.items()
        }

    def supports_aggregation(self, aggregation: Callable) -> bool:
        """Whether `document_metrics` computes lm-eval's aggregation: here, only the mean."""
        return (aggregation.__module__, aggregation.__name__) == ("lm_eval.api.metrics", "mean")

    def extra_details(self, samples: Sequence[Sample]) -> Mapping[str, Any]:
        """Further JSON values for the details of the result."""
        return {}

    def _source(self, data_dir: Path | None) -> DocumentSource:
        return DocumentSource(self.name, self.hub, self.revision, data_dir)


def shots_asked(documents: Mapping[str, Sequence[Document]]) -> int:
    """Number of shots that are evaluated documents too."""
    if "shots" not in documents:
        return 0
    asked = {digest(document) for document in documents["test"]}
    return sum(digest(shot) in asked for shot in documents["shots"])


def metric_ratio(samples: Sequence[Sample], key: str) -> Ratio:
    """Mean of a metric of lm-eval over documents.

    Args:
        samples: Samples of all filters.
        key: lm-eval's metric and filter (`exact_match,strict-match`).
    """
    metric, _, name = key.partition(",")
    return Ratio([float(sample[metric]) for sample in samples if sample["filter"] == name])
