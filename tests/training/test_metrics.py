"""What a training measures of itself: seconds of training only, and its final loss."""

import pytest
import torch

from alps.execute import execute
from alps.runs.folder import RunFolder
from alps.runs.metrics import COLUMNS, final_loss, read_metrics
from alps.training import memory
from alps.training.fit import fit
from alps.training.metrics import Metrics
from alps.training.module import AlignmentModule
from alps.training.step_callback import StepCallback

STEP = ("method=full", "trainer.micro_batch_size=4", "trainer.checkpoint_every_n_steps=1")


class Clock:
    """Stands still unless a test moves it."""

    now = 5.0

    def __call__(self) -> float:
        return self.now


class Killed(Exception):
    """Ends a training before the checkpoint of a step."""


class Slow(StepCallback):
    """Takes long in every hook: set-up, evaluation, upload."""

    def __init__(self, clock: Clock, killed_after: int | None = None):
        self.clock, self.killed_after, self.began = clock, killed_after, False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not self.began:
            self.wait()
        self.began = True

    def on_step_end(self, trainer, module, batch):
        self.wait()
        if trainer.global_step == self.killed_after:
            raise Killed

    def wait(self, *_, **__):
        self.clock.now += 1000.0

    setup = on_fit_start = on_train_start = on_train_epoch_start = on_train_end = on_fit_end = wait


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """On it a micro-batch takes a quarter of a second, and nothing else any time."""
    clock, step = Clock(), AlignmentModule.training_step

    def training_step(module, batch, batch_idx):
        clock.now += 0.25
        return step(module, batch, batch_idx)

    monkeypatch.setattr(AlignmentModule, "training_step", training_step)
    for name in ("metrics", "module"):
        monkeypatch.setattr(f"alps.training.{name}.perf_counter", clock)
    return clock


def test_no_callback_takes_training_time(make_run, clock):
    """A step of 8 examples has two micro-batches of 4."""
    run = make_run(*STEP)
    result = execute(run, lambda run: fit(run, [Slow(clock)]))
    rows = read_metrics(run.folder / "metrics.csv")
    assert [float(row["seconds"]) for row in rows] == [0.5, 1.0, 1.5]
    assert result.train_seconds == 1.5
    assert result.tokens_per_second == int(rows[-1]["tokens"]) / 1.5


def test_neither_does_one_of_a_training_that_goes_on(make_run, clock):
    run = make_run(*STEP)
    with pytest.raises(Killed):
        execute(run, lambda run: fit(run, [Slow(clock, killed_after=2)]))
    assert RunFolder(run.folder).checkpoint_path.exists()
    result = execute(run, lambda run: fit(run, [Slow(clock)]))
    rows = read_metrics(run.folder / "metrics.csv")
    assert [float(row["seconds"]) for row in rows] == [0.5, 1.0, 1.5]
    assert result.train_seconds == 1.5
    assert result.tokens_per_second == int(rows[-1]["tokens"]) / 1.5
    tokens = [int(row["tokens"]) for row in rows]
    assert tokens == sorted(set(tokens)), "each step's are added to those before"


def test_a_checkpoint_keeps_all_measurements(tmp_path):
    kept = {"seconds": 2.5, "tokens": 30, "peak": 400}
    metrics = Metrics(RunFolder(tmp_path))
    metrics.load_state_dict(kept)
    assert metrics.state_dict() == kept


def test_the_time_left_is_told_without_the_set_up(make_run, clock, capsys, monkeypatch):
    monkeypatch.setattr("alps.training.progress.SECONDS_BETWEEN_LINES", 0)
    execute(make_run(*STEP, "trainer.progress=lines"), lambda run: fit(run, [Slow(clock)]))
    told = [line for line in capsys.readouterr().err.splitlines() if ": step " in line]
    assert [line.split(", ")[-1] for line in told] == ["1 s left", "0 s left", "0 s left"]


def test_the_last_step_is_told_however_soon_it_comes(make_run, capsys, monkeypatch):
    monkeypatch.setattr("alps.training.progress.SECONDS_BETWEEN_LINES", float("inf"))
    execute(make_run(*STEP, "trainer.progress=lines"), fit)
    told = [line for line in capsys.readouterr().err.splitlines() if ": step " in line]
    assert len(told) == 1 and ": step 3/3, loss " in told[0]


@pytest.mark.parametrize(("num_steps", "last"), [(1, 1), (3, 1), (20, 2), (21, 3), (40, 4)])
def test_the_final_loss_is_the_mean_of_the_last_tenth(tmp_path, num_steps, last):
    """Losses are powers of two, so that every other choice of steps has another mean."""
    losses = [2.0**step for step in range(num_steps)]
    lines = [f"{step},{loss},0.1,10,1.0" for step, loss in enumerate(losses, start=1)]
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join([",".join(COLUMNS), *lines, "41,0.5"]))  # the last is cut short
    assert final_loss(path) == sum(losses[-last:]) / last


def test_without_a_step_there_is_no_final_loss(tmp_path):
    assert final_loss(tmp_path / "metrics.csv") is None


def test_memory_of_earlier_runs_is_not_counted():
    peaks = []
    for size in (400_000_000, 1):
        memory.reset_peak(on_gpu=False)
        torch.ones(size // 4)
        peaks.append(memory.peak_bytes(on_gpu=False))
    assert peaks[0] > peaks[1] + 300_000_000
