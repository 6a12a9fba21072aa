"""Loss and perplexity on the held-out rows of the run's own data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from alps.evals.subject import Scorecard, Subject
from alps.families import Benchmark


@dataclass(frozen=True, kw_only=True)
class HeldOut(Benchmark):
    """Mean negative log-likelihood (nats) of an answer token, and its exponential."""

    def evaluate(self, subject: Subject) -> Scorecard:
        """Runs the test split through the loss of training."""
        import torch

        from alps.data.batches import pad
        from alps.data.encoded import encoded_rows
        from alps.models.load import pad_id
        from alps.models.loss import answer_loss

        tokenizer = subject.tokenizer
        rows = encoded_rows(subject.data, tokenizer, split="test", limit=self.limit)
        by_length = rows.lengths.argsort(kind="stable").tolist()
        device = next(subject.model.parameters()).device
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(rows), subject.batch_size):
                members = by_length[start : start + subject.batch_size]
                batch = pad([rows[i] for i in members], pad_id(tokenizer))
                ids, labels = batch["input_ids"].to(device), batch["labels"].to(device)
                total += float(answer_loss(subject.model, ids, labels))
        tokens = int(rows.num_answers.sum())
        if not tokens:
            return Scorecard(metrics={}, num_documents=0)
        loss = total / tokens
        metrics = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        return Scorecard(metrics=metrics, num_documents=len(rows))
