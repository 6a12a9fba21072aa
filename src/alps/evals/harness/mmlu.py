"""MMLU: multiple-choice questions of 57 subjects, each with shots of its own subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alps.evals.harness.benchmark import HarnessTask, Measure, Sample, column
from alps.evals.harness.documents import Row

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask


@dataclass(frozen=True, kw_only=True)
class Mmlu(HarnessTask):
    """One task over all subjects, which asks what the harness's 57 tasks ask.

    The first metric is the mean over subjects, the second the mean over questions.
    """

    def limited(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The first question of every subject, then the second ones, up to the limit."""
        if self.limit is None:
            return rows
        seen: dict[str, int] = {}
        rounds = []
        for row in rows:
            rounds.append(seen.setdefault(row["subject"], 0))
            seen[row["subject"]] += 1
        order = sorted(range(len(rows)), key=lambda i: rounds[i])  # stable: subjects in file order
        return [rows[i] for i in order[: self.limit]]

    def harness_task(
        self, documents: Mapping[str, Sequence[Row]], num_fewshot: int
    ) -> ConfigurableTask:
        """The harness's template for a subject, with the subject taken from the document."""
        from alps.evals.harness.mmlu_task import MmluTask
        from alps.evals.harness.specification import specification

        return MmluTask(config=specification(self, documents, num_fewshot))

    def measures(self, samples: Sequence[Sample]) -> Mapping[str, Measure]:
        """Macro average over subjects, and micro average."""
        (name, key), *_ = self.metrics.items()
        part, subjects = column(samples, key), [sample["doc"]["subject"] for sample in samples]
        return {"macro_accuracy": Measure([part], groups=subjects), name: Measure([part], key=key)}

    def more_details(self, samples: Sequence[Sample]) -> Mapping[str, Any]:
        """Accuracy and number of questions of every subject."""
        right: dict[str, list[float]] = {}
        metric = next(iter(self.metrics.values())).partition(",")[0]
        for sample in samples:
            right.setdefault(sample["doc"]["subject"], []).append(float(sample[metric]))
        each = {
            subject: {"accuracy": sum(values) / len(values), "num_documents": len(values)}
            for subject, values in sorted(right.items())
        }
        return {"num_subjects": len(each), "subjects": each}
