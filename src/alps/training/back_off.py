"""Backing off to smaller micro-batches when a training step runs out of memory.

The examples of a step, and so the result, do not depend on the size. One process goes on from the
last finished step. Several ranks end together, since the others may wait for the one without
memory; they are started again and go on from the last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from alps.base.atomic import write_json
from alps.runs.result import MicroBatchTooLarge


class BackOff(pl.Callback):
    """Halves the micro-batch size after a step that ran out of memory.

    Must come before callbacks that evaluate or save.
    """

    def __init__(self, checkpoint_path: Path, size: int):
        """Watches an attempt.

        Args:
            checkpoint_path: Checkpoint of the training; the next size is recorded beside it.
            size: Examples per forward pass in this attempt; 1 if it may not change.
        """
        self.checkpoint_path, self.size = checkpoint_path, size
        self.in_step = self.updating = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Forward and backward pass follow."""
        self.in_step, self.updating = True, False

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        """The parameters are about to change."""
        self.updating = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluation and checkpoints follow."""
        self.in_step = False

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Saves the last finished step of a single process.

        Several ranks would wait for each other here.
        """
        unchanged = self.in_step and not self.updating and trainer.global_step > 0
        if out_of_memory(exception) and self.size > 1 and unchanged and trainer.world_size == 1:
            trainer.save_checkpoint(self.checkpoint_path)

    @contextmanager
    def halving(self) -> Iterator[None]:
        """Turns a step's lack of memory into `MicroBatchTooLarge`, if a smaller size is left."""
        try:
            yield
        except RuntimeError as error:
            if not (out_of_memory(error) and self.in_step and self.size > 1):
                raise
            smaller = self.size // 2
            write_json(_record(self.checkpoint_path), {"micro_batch_size": smaller})
            raise MicroBatchTooLarge(
                f"out of memory with trainer.micro_batch_size={self.size}; going on with {smaller}"
            ) from None


def recorded_size(checkpoint_path: Path) -> int | None:
    """The size to which an earlier attempt backed off, or None."""
    record = _record(checkpoint_path)
    return json.loads(record.read_text())["micro_batch_size"] if record.exists() else None


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's memory, or that of the machine, was exhausted."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _record(checkpoint_path: Path) -> Path:
    return checkpoint_path.with_name("micro_batch.json")
