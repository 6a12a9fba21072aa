"""What a training leaves behind, and under which name."""

import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file

from alps.execute import execute
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.runs.folder import RunFolder
from alps.training.checkpoint import AtomicCheckpointIO
from alps.training.fit import fit

LORA = ("method=lora", "optim.max_steps=2")


def test_weights_made_again_keep_the_name_of_their_training(make_run):
    """Evaluations of them stay valid: same settings, rows and seed."""
    run = make_run(*LORA)
    folder = RunFolder(run.folder)
    folder.write_run(run)
    names = []
    for _ in range(2):
        fit(run)
        names.append(folder.training_id)
        folder.weights_path.unlink()
    assert names[0] == names[1]
    other = make_run(*LORA, "output_dir=other")
    RunFolder(other.folder).write_run(other)
    fit(other)
    assert RunFolder(other.folder).training_id != names[0]


def test_adapters_begin_with_the_runs_seed_whatever_was_drawn_before(make_run):
    ends = []
    for number in range(2):
        torch.manual_seed(100 + number)
        run = make_run(*LORA, f"output_dir=o{number}")
        execute(run, fit)
        ends.append(load_file(RunFolder(run.folder).weights_path))
    assert all(torch.equal(ends[1][name], tensor) for name, tensor in ends[0].items())


def test_the_trainable_fraction_is_of_the_base_model(make_run):
    """Adapters are trained, but no part of what was there before."""
    run = make_run(*LORA, "optim.max_steps=1")
    result = execute(run, fit)
    adapters = sum(t.numel() for t in load_file(RunFolder(run.folder).weights_path).values())
    base = sum(p.numel() for p in load_model(materialize(run.model)).parameters())
    assert result.num_trainable == adapters
    assert result.trainable_fraction == adapters / base
    plain = json.loads(RunFolder(run.folder).result_path.read_text())
    assert plain["trainable_fraction"] == asdict(result)["trainable_fraction"]


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2]), (2, [2]), (3, [])])
def test_checkpoints_are_written_between_steps_but_not_after_the_last(
    make_run, monkeypatch, every, steps
):
    saved, save = [], AtomicCheckpointIO.save_checkpoint

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        saved.append(checkpoint["global_step"])
        save(self, checkpoint, path)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save_checkpoint)
    execute(make_run("method=full", f"trainer.checkpoint_every_n_steps={every}"), fit)
    assert saved == steps
