"""MMLU: multiple-choice questions of 57 subjects, each with shots of its own subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alps.evals.harness.benchmark import DocumentMetric, HarnessTask, Sample, metric_ratio
from alps.evals.harness.documents import Document

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask


@dataclass(frozen=True, kw_only=True)
class Mmlu(HarnessTask):
    """One task over all subjects, with the prompts of lm-eval's 57 tasks.

    The headline is the mean over subjects, the second metric the mean over questions.
    """

    def limited(self, documents: Sequence[Document]) -> Sequence[Document]:
        """The first question of every subject, then the second ones, up to the limit."""
        if self.limit is None:
            return documents
        counts: dict[str, int] = {}
        rounds = []
        for document in documents:
            rounds.append(counts.setdefault(document["subject"], 0))
            counts[document["subject"]] += 1
        order = sorted(range(len(documents)), key=lambda i: rounds[i])  # stable: file order
        return [documents[i] for i in order[: self.limit]]

    def harness_task(
        self, documents: Mapping[str, Sequence[Document]], num_fewshot: int
    ) -> ConfigurableTask:
        """lm-eval's task of a subject, with the subject taken from the document."""
        from alps.evals.harness.mmlu_task import MmluTask
        from alps.evals.harness.task_config import task_config

        return MmluTask(config=task_config(self, documents, num_fewshot))

    def document_metrics(self, samples: Sequence[Sample]) -> Mapping[str, DocumentMetric]:
        """Macro average over subjects, and micro average."""
        (name, key), *_ = self.metrics.items()
        ratio, subjects = metric_ratio(samples, key), [s["doc"]["subject"] for s in samples]
        macro, micro = DocumentMetric([ratio], groups=subjects), DocumentMetric([ratio], key=key)
        return {"macro_accuracy": macro, name: micro}

    def extra_details(self, samples: Sequence[Sample]) -> Mapping[str, Any]:
        """Accuracy and number of questions of every subject."""
        scores: dict[str, list[float]] = {}
        metric = next(iter(self.metrics.values())).partition(",")[0]
        for sample in samples:
            scores.setdefault(sample["doc"]["subject"], []).append(float(sample[metric]))
        subjects = {
            subject: {"accuracy": sum(values) / len(values), "num_documents": len(values)}
            for subject, values in sorted(scores.items())
        }
        return {"num_subjects": len(subjects), "subjects": subjects}
