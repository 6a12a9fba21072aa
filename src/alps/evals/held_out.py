"""Loss and perplexity on the held-out rows of the run's own data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from alps.evals.statistics import Part, uncertainty, value
from alps.evals.subject import Scorecard, Subject, Uncertainty
from alps.families import Benchmark


@dataclass(frozen=True, kw_only=True)
class HeldOut(Benchmark):
    """Mean negative log-likelihood (nats) of an answer token, and its exponential."""

    def evaluate(self, subject: Subject) -> Scorecard:
        """Runs the test split through the loss of training, row by row: no batch changes it."""
        import torch

        from alps.data.batches import pad
        from alps.data.encoded import encoded_rows
        from alps.models.load import pad_id
        from alps.models.loss import answer_loss

        tokenizer = subject.tokenizer
        rows = encoded_rows(subject.data, tokenizer, split="test", limit=self.limit)
        if not int(rows.num_answers.sum()):
            return Scorecard(metrics={}, num_documents=0)
        device = next(subject.model.parameters()).device
        sums = []
        with torch.no_grad():
            for row in rows:
                batch = pad([row], pad_id(tokenizer))
                ids, labels = batch["input_ids"].to(device), batch["labels"].to(device)
                sums.append(float(answer_loss(subject.model, ids, labels)))
        loss = Part(sums, rows.num_answers)
        mean, sure = value(loss), uncertainty(loss)
        return Scorecard(
            metrics={"loss": mean, "perplexity": _perplexity(mean)},
            uncertainty={"loss": sure, "perplexity": _of_perplexity(mean, sure)} if sure else {},
            num_documents=len(rows),
        )


def _of_perplexity(loss: float, sure: Uncertainty) -> Uncertainty:
    """Interval by its ends, standard error to first order."""
    low, high = _perplexity(sure.low), _perplexity(sure.high)
    return Uncertainty(stderr=sure.stderr * _perplexity(loss), low=low, high=high)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))
