"""Optimizer steps of the project's own trainer, on a model with random weights."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from alps.data.encoding.dataset import EncodedDataset
from alps.data.encoding.encode import EncodedExample
from alps.models.apply import apply, cast_frozen, checkpoint_activations
from alps.models.architecture import decoder_of
from alps.runs.folder import RunFolder
from alps.settings.run import Run
from alps.training.checkpoint import CheckpointCallback
from alps.training.fit import build_loader, build_trainer, step_schedule
from alps.training.metrics import Metrics
from alps.training.module import AlignmentModule
from gpu_parts.models import plan_of, random_model
from gpu_parts.report import Report


@dataclass(frozen=True)
class Steps:
    """Measurements of a training.

    Attributes:
        first_loss: Loss of the first step.
        first_seconds: Seconds of the first step, which compiles and allocates.
        seconds: Median of the steps after the warm-up.
        peak: Peak bytes: allocated on a GPU, resident on a CPU.
    """

    first_loss: float
    first_seconds: float
    seconds: float
    peak: int


class StepTimes(Metrics):
    """Keeps the seconds and losses of all steps."""

    def __init__(self, folder: RunFolder):
        """As `Metrics`."""
        super().__init__(folder)
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Measures one step."""
        before = self.seconds
        super().on_step_end(trainer, module, batch)
        self.times.append(self.seconds - before)
        self.losses.append(self.latest["loss"])

    def steps(self, warmup: int) -> Steps:
        """The measurements."""
        seconds = statistics.median(self.times[warmup:])
        return Steps(self.losses[0], self.times[0], seconds, self.peak)


class NoCheckpoints(CheckpointCallback):
    """Leaves signals to Lightning, and saves nothing."""

    def __init__(self, path: Path):
        """Takes the place of the real one."""
        super().__init__(path, every_n_steps=10**9)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Installs no signal handler."""


class Release(pl.Callback):
    """Frees parameters and optimizer states, which Lightning would copy to the host's memory."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the last step."""
        for optimizer in trainer.optimizers:
            optimizer.state.clear()
        for parameter in pl_module.parameters():
            parameter.grad = None
            parameter.data = parameter.data.new_empty(0)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """After a step that failed."""
        self.on_fit_end(trainer, pl_module)


@dataclass
class Training:
    """One measured training.

    Attributes:
        report: Sizes.
        run: Its settings.
        rows: Its examples, all of them in each step.
        half: Whether frozen weights are bfloat16 from the start.
        compiler: Backend of torch.compile, or None.
    """

    report: Report
    run: Run
    rows: Sequence[EncodedExample]
    half: bool = False
    compiler: str | None = None

    def __call__(self) -> Steps:
        """Trains as `alps.training.fit` does, on a model with random weights."""
        run = self.run
        model: nn.Module = random_model(run, torch.bfloat16 if self.half else torch.float32)
        torch.manual_seed(run.seed)  # for the initialization of adapters
        model = apply(model, plan_of(run))
        cast_frozen(model, run.optim.frozen_dtype)
        if run.trainer.activation_checkpointing:
            checkpoint_activations(model)
        if self.compiler:
            torch.compiler.reset()
            decoder_of(model).compile(backend=self.compiler)
        size = run.trainer.micro_batch_size
        assert isinstance(size, int)
        schedule = step_schedule(run, len(self.rows), size)
        module = AlignmentModule(
            model, run.optim, schedule, run.seed, loss_chunk=run.trainer.loss_chunk
        )
        with tempfile.TemporaryDirectory() as temporary:
            folder = RunFolder(Path(temporary))
            metrics = StepTimes(folder)
            callbacks, nothing = [metrics, Release()], NoCheckpoints(folder.checkpoint_path)
            trainer = build_trainer(run, module, folder, callbacks, nothing)
            data = EncodedDataset.of(self.rows)
            loader = build_loader(data, module, trainer, 0, "packed")
            trainer.fit(module, loader)
            return metrics.steps(self.report.warmup)
