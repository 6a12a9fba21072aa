"""A callback per optimizer step instead of per micro-batch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class StepCallback(pl.Callback):
    """Calls `on_step_end` after the last micro-batch of an optimizer step."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook, per micro-batch."""
        if (batch_idx + 1) % pl_module.schedule.num_micro == 0:
            self.on_step_end(trainer, pl_module, batch)

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Called after optimizer step `trainer.global_step`; `batch` is its last micro-batch."""
        raise NotImplementedError
