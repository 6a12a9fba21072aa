import pytest
import torch
import torch.nn.functional as F

from alps.data.batches import pad
from alps.data.encode import EncodedRow
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.models.loss import answer_loss

ROWS = [EncodedRow([5, 6, 7, 8, 9], 2), EncodedRow([10, 11, 12], 1), EncodedRow([3] * 9, 8)]


@pytest.fixture
def model(make_run):
    return load_model(materialize(make_run().model))


def test_it_is_the_sum_over_answer_tokens_of_separate_rows(model):
    batch = pad(ROWS, pad_id=2)
    naive = 0.0
    for row in ROWS:
        logits = model(torch.tensor([row.ids])).logits[0]
        for position in range(row.answer_start, len(row.ids)):
            naive += F.cross_entropy(logits[position - 1], torch.tensor(row.ids[position])).item()
    assert answer_loss(model, batch["input_ids"], batch["labels"]).item() == pytest.approx(naive)


def test_a_batch_without_answers_gives_zero_with_a_gradient(model):
    batch = pad([], pad_id=2)
    loss = answer_loss(model, batch["input_ids"], batch["labels"])
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
