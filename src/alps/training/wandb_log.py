"""Training curves in Weights & Biases; a failure is reported once and never stops a training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl

from alps.base.serialization import to_dict
from alps.settings.run import Run
from alps.training.metrics import Metrics
from alps.training.step_callback import StepCallback

log = logging.getLogger(__name__)


class WandbLog(StepCallback):
    """One W&B run per training; its id is the run's key, so that resumed trainings continue it.

    `WANDB_MODE` or W&B's settings select the mode. By default, a run without credentials for W&B's
    host is recorded offline, in the run's folder.
    """

    def __init__(self, run: Run, folder: Path, metrics: Metrics):
        """Logs the latest values of `metrics`."""
        self.run, self.folder, self.metrics = run, folder, metrics
        self._session: Any = None
        self._broken = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Opens the W&B run."""
        if trainer.is_global_zero:
            self._guarded(self._open)

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Logs each optimizer step."""
        if self._session and not self._broken:
            latest = {**self.metrics.latest, **self.metrics.scores}
            self._guarded(lambda: self._session.log(latest, step=int(latest["step"])))
            self.metrics.scores = {}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Logs the scores of the trained model and finishes the W&B run."""
        scores = dict(self.metrics.scores)
        if self._session and scores and not self._broken:
            self._guarded(lambda: self._session.summary.update(scores))
        self._close(0)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Finishes the W&B run as failed."""
        self._close(1)

    def _open(self) -> None:
        import wandb

        run = self.run
        self._session = wandb.init(
            project=run.logger.project,
            entity=run.logger.entity,
            group=run.logger.group,
            id=run.key,
            name=run.key,
            job_type="train",
            resume="allow",
            mode=_mode(),
            dir=self.folder,
            config=to_dict(run),
        )

    def _close(self, exit_code: int) -> None:
        if self._session:
            self._guarded(lambda: self._session.finish(exit_code=exit_code))
            self._session = None

    def _guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # no logger error may stop the training
            log.warning("W&B logging stopped: %s", error)
            self._broken = True


def _mode() -> Literal["offline"] | None:
    """None if W&B's settings select the mode; without credentials it would prompt for a key."""
    import wandb

    if wandb.setup().settings.mode in ("offline", "dryrun", "disabled"):
        return None
    return None if wandb.login(prompt=False, verify=False) else "offline"
