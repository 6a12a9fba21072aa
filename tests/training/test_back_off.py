"""A step without memory halves the micro-batch, and the training ends as with that size."""

import json
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from alps.execute import execute
from alps.launch import ranks
from alps.runs.folder import RunFolder
from alps.runs.metrics import read_metrics
from alps.runs.result import RunFailed
from alps.training import fit as training
from alps.training.back_off import recorded_size
from alps.training.fit import fit
from alps.training.module import AlignmentModule

SETTINGS = ("method=full", "optim.epochs=2", "optim.lr=0.01")
AUTO = "trainer.micro_batch_size=auto"


class Device:
    """Has memory for a number of examples in a micro-batch, and is filled by others after a while.

    Attributes:
        examples: Examples that fit.
        full_from: Optimizer step (0-based) from which no more do.
        where: Part of the step that runs out of memory.
        tried: Step and examples of each micro-batch.
    """

    def __init__(self, monkeypatch, examples: int, full_from: int = 0, where: str = "forward"):
        self.examples, self.full_from, self.where = examples, full_from, where
        self.tried: list[tuple[int, int]] = []
        forward, update = AlignmentModule.training_step, torch.optim.AdamW.step
        device = self

        def training_step(module, batch, batch_idx):
            device.tried.append((module.global_step, len(batch["lengths"])))
            device.check("forward")
            return forward(module, batch, batch_idx)

        def backward(module, loss):
            device.check("backward")
            loss.backward()

        def step(optimizer, closure=None):
            assert closure is not None
            loss = closure()
            if device.where == "update" and device.exhausted():
                optimizer.param_groups[0]["params"][0].data += 1.0  # the update had begun
            device.check("update")
            return update(optimizer, lambda: loss)

        monkeypatch.setattr(AlignmentModule, "training_step", training_step)
        monkeypatch.setattr(AlignmentModule, "backward", backward)
        monkeypatch.setattr(torch.optim.AdamW, "step", step)

    def exhausted(self) -> bool:
        step, examples = self.tried[-1]
        return step >= self.full_from and examples > self.examples

    def check(self, where: str) -> None:
        if where == self.where and self.exhausted():
            raise torch.OutOfMemoryError("CUDA out of memory")


def assert_same_training(run, other) -> None:
    weights, wanted = (load_file(RunFolder(r.folder).weights_path) for r in (run, other))
    assert weights.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(weights[name], wanted[name], rtol=1e-4, atol=1e-4)
    rows, others = (read_metrics(r.folder / "metrics.csv") for r in (run, other))
    assert [(r["step"], r["tokens"]) for r in rows] == [(r["step"], r["tokens"]) for r in others]


@pytest.mark.parametrize("where", ["forward", "backward", "update"])
def test_it_goes_on_from_the_last_finished_step(make_run, monkeypatch, where):
    given = make_run(*SETTINGS, "trainer.micro_batch_size=2", "output_dir=given")
    execute(given, fit)
    device = Device(monkeypatch, 3, full_from=3, where=where)
    run = make_run(*SETTINGS, AUTO, "trainer.checkpoint_every_n_steps=2", "output_dir=auto")
    result = execute(run, fit)
    assert result.micro_batch_size == 2
    assert not (run.folder / "checkpoint").exists()
    assert_same_training(run, given)
    sizes = {step: max(n for s, n in device.tried if s == step) for step, _ in device.tried}
    assert list(sizes.values()) == [8, 8, 8, 8, 2, 2]  # step 3 was tried with 8, 4 and 2
    repeated = [n for step, n in device.tried if step == 2]
    # Parameters that an update may have changed are not saved: it takes the last checkpoint.
    assert repeated == ([8, 4, 4, 2, 2, 2, 2] if where == "update" else [8])


def test_without_memory_for_one_example_the_error_is_told(make_run, monkeypatch):
    device = Device(monkeypatch, 0)
    with pytest.raises(RunFailed, match=r"^out of memory: a smaller trainer\.micro_batch_size"):
        execute(make_run(*SETTINGS, AUTO), fit)
    assert [examples for _, examples in device.tried] == [8, 4, 2, 1]


def test_a_size_that_was_asked_for_is_not_changed(make_run, monkeypatch):
    device = Device(monkeypatch, 3)
    with pytest.raises(RunFailed, match=r"^out of memory: a smaller trainer\.micro_batch_size"):
        execute(make_run(*SETTINGS, "trainer.micro_batch_size=8"), fit)
    assert len(device.tried) == 1


def test_the_machines_own_memory_counts_too(make_run, monkeypatch):
    step, tried = AlignmentModule.training_step, []

    def training_step(module, batch, batch_idx):
        tried.append(len(batch["lengths"]))
        if tried[-1] > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return step(module, batch, batch_idx)

    monkeypatch.setattr(AlignmentModule, "training_step", training_step)
    assert execute(make_run(*SETTINGS, AUTO), fit).micro_batch_size == 4
    assert tried[:2] == [8, 4]


def test_an_evaluation_without_memory_repeats_no_training(make_run, monkeypatch):
    class Evaluation(pl.Callback):
        def on_fit_end(self, trainer, pl_module):
            raise torch.OutOfMemoryError("CUDA out of memory")

    run, device = make_run(*SETTINGS, AUTO), Device(monkeypatch, 8)
    with pytest.raises(RunFailed, match=r"^out of memory"):
        execute(run, lambda run: fit(run, [Evaluation()]))
    assert [step for step, _ in device.tried] == list(range(6))
    assert RunFolder(run.folder).training_path.exists()


def test_an_interrupted_training_remembers_its_size(make_run, monkeypatch):
    run, device = make_run(*SETTINGS, AUTO), Device(monkeypatch, 2)
    path = RunFolder(run.folder).checkpoint_path

    class Killed(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            raise KeyError("killed")

    with pytest.raises(KeyError):
        execute(run, lambda run: fit(run, [Killed()]))
    assert recorded_size(path) == 2 and [n for _, n in device.tried] == [8, 4, 2]
    device.tried.clear()
    assert execute(run, fit).micro_batch_size == 2
    assert {n for _, n in device.tried} == {2}


def test_gpus_choose_the_size_themselves_and_cpus_take_eight(make_run, monkeypatch):
    trainer = make_run().trainer
    assert [trainer.requested_micro_batch(gpu) for gpu in (True, False)] == ["auto", 8]
    asked = make_run("trainer.micro_batch_size=3").trainer
    assert [asked.requested_micro_batch(gpu) for gpu in (True, False)] == [3, 3]
    monkeypatch.setattr(training, "automatic_micro_batch_size", lambda *_: pytest.fail("measured"))
    assert execute(make_run("method=full"), fit).micro_batch_size == 8


RANK = """
import os
import torch
from alps.launch.worker import main
from alps.training.module import AlignmentModule

step, second = AlignmentModule.training_step, os.environ["RANK"] == "1"
ballast = torch.ones(100_000_000 * second)

def training_step(module, batch, batch_idx):
    print(f"TRIED {module.global_step} {len(batch['lengths'])}", flush=True)
    if second and module.global_step >= 3 and len(batch["lengths"]) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return step(module, batch, batch_idx)

AlignmentModule.training_step = training_step
main()
"""


@pytest.mark.usefixtures("preloaded_ranks")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_rank_without_memory_makes_all_begin_again(
    make_run, monkeypatch, tmp_path, capfd, strategy
):
    script, command = tmp_path / "rank.py", ranks._command
    script.write_text(RANK)

    def with_little_memory(folder: Path, devices: int, where: list[str]) -> list[str]:
        torchrun = command(folder, devices, where)
        return [*torchrun[: torchrun.index("-m", 3)], str(script), str(folder)]

    monkeypatch.setattr(ranks, "_command", with_little_memory)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    common = (*SETTINGS, "trainer.accelerator=cpu", "trainer.devices=2")
    run = make_run(
        *common, AUTO, f"trainer.strategy={strategy}", "trainer.checkpoint_every_n_steps=2"
    )
    result = execute(run, ranks.fit_on_devices)
    tried = [line.split()[-2:] for line in capfd.readouterr().out.splitlines() if "TRIED" in line]
    assert {int(step) for step, size in tried if size == "4"} == {0, 1, 2, 3}
    assert {int(step) for step, size in tried if size == "2"} == {2, 3, 4, 5}
    assert result.micro_batch_size == 2 and result.devices == 2
    # The second rank holds 400 MB besides.
    assert result.peak_memory_bytes is not None and result.peak_memory_bytes > 850e6
    given = make_run(*SETTINGS, "trainer.micro_batch_size=2", "output_dir=given")
    execute(given, fit)
    assert_same_training(run, given)
    assert json.loads((run.folder / "training.json").read_text())["micro_batch_size"] == 2
    assert sys.executable in with_little_memory(run.folder, 2, [])
