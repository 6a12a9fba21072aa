"""A run killed anywhere ends in bitwise the same weights as one that was left alone."""

import csv
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alps.execute import execute
from alps.runs.folder import RunFolder
from alps.runs.metrics import read_metrics
from alps.runs.result import RunFailed
from alps.training.checkpoint import latest_checkpoint
from alps.training.fit import fit

NUM_STEPS = 9
SETTINGS = (
    "method=random", "ratio=0.3", "optim.epochs=3", "trainer.checkpoint_every_n_steps=1",
    "trainer.micro_batch_size=3",
)  # fmt: skip

KILLED = """
import os, signal, sys
from pathlib import Path
from alps.execute import execute
from alps.runs.folder import RunFolder
from alps.training import fit
from alps.training import checkpoint as resume

where, step, folder = sys.argv[1], int(sys.argv[2]), RunFolder(Path(sys.argv[3]))
save, real = resume.AtomicCheckpointIO.save_checkpoint, resume.torch.save

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def save_checkpoint(self, checkpoint, path, storage_options=None):
    here = checkpoint["global_step"] == step
    if here and where == "before":
        die()
    if here and where == "inside":
        def torn(value, file):
            real(value, file)
            size = os.path.getsize(file)
            os.truncate(file, size // 2)
            die()
        resume.torch.save = torn
    save(self, checkpoint, path)
    if here:
        die()

resume.AtomicCheckpointIO.save_checkpoint = save_checkpoint
execute(folder.read_run(), fit.fit)
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Weights and metrics of the run that nobody disturbed."""
    from alps.config.build import build, compose_config

    output_dir = tmp_path_factory.mktemp("whole")
    small = ("model=tiny", "evals=none", "data.max_examples=24", "trainer.progress=off")
    run = build(compose_config([*small, *SETTINGS, f"output_dir={output_dir}"]))
    execute(run, fit)
    return RunFolder(run.folder)


@pytest.mark.parametrize("where", ["before", "inside", "after"])
def test_sigkill_around_a_checkpoint(make_run, uninterrupted, preloaded, tmp_path, where):
    run = make_run(*SETTINGS)
    folder = RunFolder(run.folder)
    folder.write_run(run)
    step = random.SystemRandom().randint(2, NUM_STEPS - 1)
    child = preloaded.run("-c", KILLED, where, str(step), str(folder.path), cwd=tmp_path)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert not folder.training_path.exists() and not folder.weights_path.exists()
    assert folder.status()["state"] == "stopped"
    reached = len(read_metrics(folder.path / "metrics.csv"))
    assert reached == step < NUM_STEPS

    execute(run, fit)
    same_end(folder, uninterrupted, f"killed {where} the checkpoint of step {step}")
    assert not list(folder.path.rglob("*.tmp")), "a temporary file was left"


def test_sigkill_at_any_moment(make_run, uninterrupted, preloaded, tmp_path):
    """Kills the process from outside, a random while after its first step, until it is done."""
    run = make_run(*SETTINGS)
    folder = RunFolder(run.folder)
    folder.write_run(run)
    code = (
        "import sys; from pathlib import Path; from alps.execute import execute;"
        "from alps.runs.folder import RunFolder; from alps.training.fit import fit;"
        "execute(RunFolder(Path(sys.argv[1])).read_run(), fit)"
    )
    child = preloaded.start("-c", code, str(folder.path), cwd=tmp_path)
    while child.poll() is None and not read_metrics(folder.path / "metrics.csv"):
        time.sleep(0.002)
    time.sleep(random.SystemRandom().uniform(0, 0.1))
    child.kill()
    child.wait()
    killed_unfinished = not folder.training_path.exists()
    execute(run, fit)
    same_end(folder, uninterrupted, "killed from outside")
    assert killed_unfinished, "the process was faster than its killer: use more steps"


def test_a_truncated_checkpoint_is_refused_by_name(make_run):
    run = make_run(*SETTINGS)
    folder = RunFolder(run.folder)
    folder.checkpoint_path.parent.mkdir(parents=True)
    folder.checkpoint_path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(RunFailed, match=r"last\.ckpt is truncated or damaged; delete it"):
        execute(run, fit)
    assert folder.status()["state"] == "failed"
    assert folder.checkpoint_path.exists()


def test_a_checkpoint_resumes_with_another_number_of_micro_batches(
    make_run, uninterrupted, preloaded, tmp_path
):
    run = make_run(*SETTINGS)
    folder = RunFolder(run.folder)
    folder.write_run(run)
    preloaded.run("-c", KILLED, "after", "4", str(folder.path), cwd=tmp_path)
    assert folder.checkpoint_path.exists() and not folder.training_path.exists()
    other = make_run(*SETTINGS, "trainer.micro_batch_size=8")
    assert other.key == run.key
    execute(other, fit)
    assert [step for step, _ in losses(folder)] == [step for step, _ in losses(uninterrupted)]
    ours, theirs = load_file(folder.weights_path), load_file(uninterrupted.weights_path)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=2e-6)


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(tmp_path):
    assert latest_checkpoint(tmp_path / "last.ckpt") is None


def test_sigterm_leaves_a_checkpoint_and_says_so(preloaded, tmp_path):
    arguments = [
        "train", "model=tiny", "evals=none", "data.max_examples=24",
        *SETTINGS[:-2], "trainer.micro_batch_size=3", "optim.epochs=200",
    ]  # fmt: skip
    child = preloaded.start("-m", "alps.cli", *arguments, cwd=tmp_path, joined=True)
    metrics = []
    while child.poll() is None and not metrics:
        time.sleep(0.05)
        metrics = [p for p in Path(tmp_path).glob("outputs/runs/*/metrics.csv") if read_metrics(p)]
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM, output
    folder = RunFolder(metrics[0].parent)
    assert folder.status()["state"] == "stopped"
    assert folder.checkpoint_path.exists()


def same_end(folder: RunFolder, other: RunFolder, case: str) -> None:
    ours, theirs = load_file(folder.weights_path), load_file(other.weights_path)
    assert ours.keys() == theirs.keys()
    different = [n for n in ours if ours[n].numpy().tobytes() != theirs[n].numpy().tobytes()]
    assert not different, f"{case}: {len(different)} tensors differ"
    assert losses(folder) == losses(other), case


def losses(folder: RunFolder) -> list[tuple[str, str]]:
    with (folder.path / "metrics.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]
