"""Predictions count the largest micro-batch; one holds no more than a rank's share."""

import pytest

from alps.cost.memory import PROGRAM_BYTES, peak_memory
from alps.cost.shape import ModelShape
from alps.cost.storage import storage
from alps.data.encoding.dataset import EncodedDataset
from alps.data.encoding.encode import EncodedExample
from alps.models.checkpoint import materialize
from alps.models.training_plan import TrainingPlan
from alps.runs.result import RunFailed
from alps.training import prediction
from alps.training.fit import step_schedule
from alps.training.prediction import automatic_micro_batch_size, largest_batch, predict_cost

PLAN = TrainingPlan(qkv="all", rest=True)
ROWS = EncodedDataset.of([EncodedExample(list(range(n)), n - n // 4) for n in (8, 40, 12, 32, 16)])
"""Of each row the last quarter is its answer."""


@pytest.mark.parametrize(
    ("batching", "tokens", "answers"),
    [("auto", 72, 18), ("packed", 72, 18), ("padded", 80, 12), ("grouped", 80, 18)],
)
def test_memory_is_that_of_the_largest_micro_batch(make_run, batching, tokens, answers):
    """A step has all rows: in two by two of similar length, or (padded) in the order drawn."""
    run = make_run("method=full", f"data.batching={batching}", "seed=1")
    base = materialize(run.model)
    schedule = step_schedule(run, len(ROWS), 2)
    assert largest_batch(ROWS, schedule, batching) == (tokens, answers)
    found = predict_cost(run, base, PLAN, ROWS, schedule, "32-true")
    kept = storage(run, "32-true", on_gpu=False)
    wanted = peak_memory(ModelShape.read(base), PLAN, tokens, answers, kept)
    assert found["predicted_memory_bytes"] == wanted.total > PROGRAM_BYTES


def test_ranks_share_a_step(make_run):
    run = make_run("method=full", "trainer.devices=2")
    assert largest_batch(ROWS, step_schedule(run, len(ROWS), 8), "packed") == (40 + 16 + 8, 16)


@pytest.mark.parametrize(("devices", "size"), [(1, 8), (2, 4), (3, 3)])
def test_an_automatic_micro_batch_is_at_most_a_ranks_share_of_a_step(make_run, devices, size):
    run = make_run("method=full", "trainer.micro_batch_size=auto", f"trainer.devices={devices}")
    assert automatic_micro_batch_size(run, materialize(run.model), PLAN, ROWS) == size


@pytest.mark.parametrize("share", [0.9, 1.1, 1.3])
def test_a_gpu_tries_one_example_that_fits_into_all_of_its_memory(make_run, monkeypatch, share):
    """Predicted memory keeps a reserve; whether one example needs it is measured."""
    run = make_run("method=full", "trainer.micro_batch_size=auto")
    base, kept = materialize(run.model), storage(run, "mixed", on_gpu=True)
    need = peak_memory(ModelShape.read(base), PLAN, 40, 10, kept).total
    monkeypatch.setattr(prediction, "uses_gpu", lambda run: True)
    monkeypatch.setattr(prediction, "device_memory", lambda *_: int(share * need))
    if share > 1:
        assert automatic_micro_batch_size(run, base, PLAN, ROWS) >= 1
        return
    with pytest.raises(RunFailed, match=r"GiB of memory, but there are"):
        automatic_micro_batch_size(run, base, PLAN, ROWS)
