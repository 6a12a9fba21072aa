"""Progress of a training: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from alps.training.metrics import Metrics
from alps.training.step_callback import StepCallback

SECONDS_BETWEEN_LINES = 15.0


class TrainingProgress(StepCallback):
    """Shows step, loss, tokens per second and remaining time, on rank 0."""

    def __init__(self, metrics: Metrics, title: str, bar: bool):
        """Shows the latest values of `metrics`."""
        self.metrics, self.title = metrics, title
        self.bar = bar and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: Any = None
        self._printed = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Starts the bar and the timing of this attempt."""
        self._first, self._seconds = trainer.global_step, self.metrics.seconds
        if self.bar and trainer.is_global_zero:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} steps {task.fields[values]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._progress.start()
            total = pl_module.schedule.num_steps
            self._task = self._progress.add_task(self.title, total=total, values="")

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Updates once per optimizer step."""
        if not trainer.is_global_zero:
            return
        latest = self.metrics.latest
        speed = latest["tokens"] / max(latest["seconds"], 1e-9)
        values = f"loss {latest['loss']:.3f}, {speed:.0f} tokens/s"
        if self._progress:
            self._progress.update(self._task, completed=trainer.global_step, values=values)
            return
        now, total = time.perf_counter(), module.schedule.num_steps
        if now - self._printed >= SECONDS_BETWEEN_LINES or trainer.global_step == total:
            self._printed = now
            done = trainer.global_step - self._first
            pace = (self.metrics.seconds - self._seconds) / done
            left = pace * (total - trainer.global_step)
            line = f"{self.title}: step {trainer.global_step}/{total}, {values}, {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stops the bar and leaves it visible."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Stops the bar."""
        self._close()

    def _close(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None
