"""Predictions count the longest rows, and a micro-batch holds no more than a rank's share."""

import pytest

from alps.cost.memory import peak_memory, storage
from alps.cost.shape import ModelShape
from alps.data.encoding.dataset import EncodedDataset
from alps.data.encoding.encode import EncodedExample
from alps.models.checkpoint import materialize
from alps.models.training_plan import TrainingPlan
from alps.training.prediction import predict_cost, resolve_micro_batch_size

PLAN = TrainingPlan(qkv="all", rest=True)
ROWS = EncodedDataset.of([EncodedExample(list(range(n)), n - n // 4) for n in (8, 40, 12, 32, 16)])
"""Of each row the last quarter is its answer."""


@pytest.mark.parametrize(
    ("batching", "tokens"), [("auto", 72), ("packed", 72), ("padded", 80), ("grouped", 80)]
)
def test_memory_is_that_of_the_longest_rows(make_run, batching, tokens):
    run = make_run("method=full", f"data.batching={batching}")
    base = materialize(run.model)
    found = predict_cost(run, base, PLAN, ROWS, 2, "32-true")
    kept = storage(run, "32-true")
    wanted = peak_memory(ModelShape.read(base), PLAN, tokens, 10 + 8, kept)
    assert found["predicted_memory_bytes"] == wanted.total


@pytest.mark.parametrize(("devices", "size"), [(1, 8), (2, 4), (3, 3)])
def test_an_automatic_micro_batch_is_at_most_a_ranks_share_of_a_step(make_run, devices, size):
    run = make_run("method=full", "trainer.micro_batch_size=auto", f"trainer.devices={devices}")
    assert resolve_micro_batch_size(run, materialize(run.model), PLAN, ROWS) == size
