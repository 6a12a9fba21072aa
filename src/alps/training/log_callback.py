"""Training curves in the loggers of a run; their failures and delays never reach the training."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl

from alps.runs.folder import RunFolder
from alps.settings.run import Run
from alps.tracking.background import Background
from alps.tracking.loggers import OPENERS, SUCCESS
from alps.tracking.sent import mark_rows
from alps.training.metrics import Metrics
from alps.training.step_callback import StepCallback

log = logging.getLogger(__name__)


class LogCallback(StepCallback):
    """Logs each step on rank 0 into all loggers of the run, each on a thread of its own.

    The id of a run in W&B and trackio is its key, so that resumed trainings continue it.
    """

    def __init__(self, run: Run, metrics: Metrics):
        """Logs the latest values of `metrics`, and evaluation scores."""
        self.run, self.metrics = run, metrics
        self._loggers: list[_BackgroundLogger] = []
        self._from_start = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Opens the loggers."""
        if trainer.is_global_zero:
            self._from_start = trainer.global_step == 0
            self._loggers = [_BackgroundLogger(name, self.run) for name in self.run.logger.names]

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Logs an optimizer step."""
        if self._loggers:
            values = {**self.metrics.latest, **self.metrics.scores}
            step = int(values.pop("step"))
            for logger in self._loggers:
                logger.log(values, step)
            self.metrics.scores = {}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Logs the scores of the trained model and closes the loggers."""
        if self.metrics.scores:
            for logger in self._loggers:
                logger.log(dict(self.metrics.scores), trainer.global_step)
        self._close(SUCCESS)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Closes the loggers of a failed training."""
        self._close("failed")

    def _close(self, status: str) -> None:
        for logger in self._loggers:
            complete = logger.close(status)
            if logger.name == "wandb" and complete and self._from_start:
                mark_rows(RunFolder(self.run.folder), self.run.logger)
        self._loggers = []


class _BackgroundLogger:
    """A Lightning logger that is opened, used and closed on a thread of its own."""

    def __init__(self, name: str, run: Run):
        self.name, self._logger = name, None
        self._thread = Background(name)
        self._thread.submit(lambda: self._open(run))

    def _open(self, run: Run) -> None:
        self._logger = OPENERS[self.name](run)

    def log(self, values: dict[str, float], step: int) -> None:
        self._thread.submit(lambda: self._logger and self._logger.log_metrics(values, step))

    def close(self, status: str) -> bool:
        return self._thread.close(lambda: self._logger and self._logger.finalize(status))
