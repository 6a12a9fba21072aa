"""Loss and perplexity on the held-out examples of the run's own data."""

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
from alps.evals.statistics import DocumentScores, Ratio, point_estimate, uncertainty
from alps.settings.interfaces import Benchmark

log = logging.getLogger(__name__)

LOSSES_FILE = "losses.json"
"""Hash of the examples; summed loss (nats) and number of answer tokens of each example."""


@dataclass(frozen=True, kw_only=True)
class HeldOut(Benchmark):
    """Mean negative log-likelihood (nats) of an answer token, and its exponential."""

    reads_data: ClassVar[bool] = True

    def evaluate(self, context: EvaluationContext) -> BenchmarkResult:
        """Computes the training loss of the test split, one example at a time.

        The result depends on no batch size. `losses.json` in the context's folder has the loss of
        every example, so that two models can be compared on paired examples.

        Raises:
            ValueError: If the model computes NaN.
        """
        import torch

        from alps.data.batches import pad
        from alps.data.encoding.dataset import context_warning, encoded_dataset
        from alps.models.load import pad_id
        from alps.models.loss import answer_loss

        tokenizer = context.tokenizer
        context_length = getattr(context.model.config, "max_position_embeddings", None)
        options: Any = {"split": "test", "limit": self.limit, "context": context_length}
        rows = encoded_dataset(context.data, tokenizer, **options)
        if message := context_warning(rows, context.data, context_length):
            log.warning("%s: %s", self.name, message)
        if not int(rows.num_answers.sum()):
            return BenchmarkResult(metrics={}, num_documents=0)
        device = next(context.model.parameters()).device
        losses = []
        with torch.no_grad():
            for row in rows:
                batch = pad([row], pad_id(tokenizer))
                ids, labels = batch["input_ids"].to(device), batch["labels"].to(device)
                losses.append(float(answer_loss(context.model, ids, labels)))
        if math.isnan(sum(losses)):
            raise ValueError(f"{self.name}: {NOT_A_NUMBER}")
        record = {
            "documents": digest([[row.ids, row.answer_start] for row in rows]),
            "losses": losses,
            "tokens": rows.num_answers.tolist(),
        }
        write_json(context.folder / LOSSES_FILE, record)
        loss_per_token = Ratio(losses, rows.num_answers, proportion=False)
        mean, spread = point_estimate(loss_per_token), uncertainty(loss_per_token)
        return BenchmarkResult(
            metrics={"loss": mean, "perplexity": _perplexity(mean)},
            uncertainty={"loss": spread, "perplexity": _perplexity_uncertainty(mean, spread)}
            if spread
            else {},
            num_documents=len(rows),
            details={
                "context_length": context_length,
                "num_truncated": rows.num_truncated,
                "left_out": dict(rows.dropped),
            },
        )

    def document_scores(self, folder: Path) -> DocumentScores:
        """Losses by example, from `losses.json`."""
        record = json.loads((folder / LOSSES_FILE).read_text())
        ratio = Ratio(record["losses"], record["tokens"], proportion=False)
        return DocumentScores(pool=record["documents"], ratios=(ratio,))


def _perplexity_uncertainty(loss: float, spread: Uncertainty) -> Uncertainty:
    """Interval by its ends, standard error to first order."""
    low, high = _perplexity(spread.low), _perplexity(spread.high)
    return Uncertainty(stderr=spread.stderr * _perplexity(loss), low=low, high=high)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))
