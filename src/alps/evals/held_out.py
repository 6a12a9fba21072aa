"""Loss and perplexity on the held-out rows of the run's own data."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from alps.base.atomic import write_json
from alps.base.hashing import digest
from alps.evals.context import NOT_A_NUMBER, BenchmarkResult, EvaluationContext, Uncertainty
from alps.evals.statistics import DocumentScores, Part, uncertainty, value
from alps.settings.interfaces import Benchmark

log = logging.getLogger(__name__)

LOSSES_FILE = "losses.json"
"""Hash of the documents, and of each the summed loss (nats) and number of its answer tokens."""


@dataclass(frozen=True, kw_only=True)
class HeldOut(Benchmark):
    """Mean negative log-likelihood (nats) of an answer token, and its exponential."""

    reads_data: ClassVar[bool] = True

    def evaluate(self, subject: EvaluationContext) -> BenchmarkResult:
        """Runs the test split through the loss of training, row by row: no batch changes it.

        The loss of every document goes to `losses.json` in the subject's folder, so that two models
        can be compared document by document.

        Raises:
            ValueError: If the model computes NaN.
        """
        import torch

        from alps.data.batches import pad
        from alps.data.encoding.dataset import context_warning, encoded_dataset
        from alps.models.load import pad_id
        from alps.models.loss import answer_loss

        tokenizer = subject.tokenizer
        context = getattr(subject.model.config, "max_position_embeddings", None)
        options: Any = {"split": "test", "limit": self.limit, "context": context}
        rows = encoded_dataset(subject.data, tokenizer, **options)
        if told := context_warning(rows, subject.data, context):
            log.warning("%s: %s", self.name, told)
        if not int(rows.num_answers.sum()):
            return BenchmarkResult(metrics={}, num_documents=0)
        device = next(subject.model.parameters()).device
        sums = []
        with torch.no_grad():
            for row in rows:
                batch = pad([row], pad_id(tokenizer))
                ids, labels = batch["input_ids"].to(device), batch["labels"].to(device)
                sums.append(float(answer_loss(subject.model, ids, labels)))
        loss = Part(sums, rows.num_answers, share=False)
        if math.isnan(sum(sums)):
            raise ValueError(f"{self.name}: {NOT_A_NUMBER}")
        losses = {
            "documents": digest([[row.ids, row.answer_start] for row in rows]),
            "losses": sums,
            "tokens": rows.num_answers.tolist(),
        }
        write_json(subject.folder / LOSSES_FILE, losses)
        mean, sure = value(loss), uncertainty(loss)
        return BenchmarkResult(
            metrics={"loss": mean, "perplexity": _perplexity(mean)},
            uncertainty={"loss": sure, "perplexity": _of_perplexity(mean, sure)} if sure else {},
            num_documents=len(rows),
            details={
                "context_length": context,
                "num_truncated": rows.num_truncated,
                "left_out": dict(rows.dropped),
            },
        )

    def document_scores(self, folder: Path) -> DocumentScores:
        """From `losses.json`."""
        found = json.loads((folder / LOSSES_FILE).read_text())
        part = Part(found["losses"], found["tokens"], share=False)
        return DocumentScores(pool=found["documents"], parts=(part,))


def _of_perplexity(loss: float, sure: Uncertainty) -> Uncertainty:
    """Interval by its ends, standard error to first order."""
    low, high = _perplexity(sure.low), _perplexity(sure.high)
    return Uncertainty(stderr=sure.stderr * _perplexity(loss), low=low, high=high)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))
