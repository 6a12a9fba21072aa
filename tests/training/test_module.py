"""What Lightning calls in each micro-batch: modes and seeds."""

import torch

from alps.runs.folder import RunFolder
from alps.training.fit import fit
from alps.training.module import AlignmentModule


def drawn(run, monkeypatch) -> list[float]:
    """A random number of each micro-batch; every module must be in training mode."""
    numbers, step = [], AlignmentModule.training_step

    def training_step(module, batch, batch_idx):
        assert all(part.training for part in module.modules())
        numbers.append(torch.rand(()).item())
        return step(module, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(AlignmentModule, "training_step", training_step)
        RunFolder(run.folder).write_run(run)
        fit(run)
    return numbers


def test_every_micro_batch_draws_its_own_numbers_again(make_run, monkeypatch):
    """Twelve of them in three steps; the base model's layers come in evaluation mode."""
    settings = ("method=full", "trainer.micro_batch_size=2")
    first = drawn(make_run(*settings), monkeypatch)
    assert len(set(first)) == 12
    assert drawn(make_run(*settings, "output_dir=again"), monkeypatch) == first
    other = drawn(make_run(*settings, "seed=1"), monkeypatch)
    assert not set(other) & set(first)
