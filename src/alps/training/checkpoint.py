"""Training checkpoints: written atomically, at step boundaries and on SIGTERM."""

from __future__ import annotations

import signal
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins import TorchCheckpointIO

from alps.base.atomic import replacing
from alps.runs.result import RunFailed
from alps.training.step_callback import StepCallback


class StoppedBySignal(SystemExit):
    """A signal stopped the training after a checkpoint. Exit code 128 + signal."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file next to its path and renames it.

    Lightning writes to the system's temporary folder. If that is another file system, a kill during
    the copy truncates the only checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):
        """Saves `checkpoint` at `path`."""
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class CheckpointCallback(StepCallback):
    """Saves `checkpoint/last.ckpt` every few steps, and when a signal asks to stop."""

    def __init__(self, path: Path, every_n_steps: int):
        """Saves to `path`, replacing the previous checkpoint."""
        self.path, self.every_n_steps = path, every_n_steps
        self.signal = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replaces Lightning's signal handler, which broadcasts and can deadlock."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Saves after a completed optimizer step."""
        stop = self._any_rank(self.signal)
        last = trainer.global_step >= module.schedule.num_steps
        if stop or (trainer.global_step % self.every_n_steps == 0 and not last):
            trainer.save_checkpoint(self.path)
        if stop and not last:
            self.signal = stop
            trainer.should_stop = True

    def _on_signal(self, number: int, frame: Any) -> None:
        self.signal = number

    def _any_rank(self, number: int) -> int:
        if not dist.is_initialized():
            return number
        shared = torch.tensor(number)
        if torch.cuda.is_available() and dist.get_backend() == "nccl":
            shared = shared.cuda()
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return int(shared)


def latest_checkpoint(path: Path) -> Path | None:
    """The checkpoint to resume from, or None to start from the beginning.

    Raises:
        RunFailed: If it is damaged.
    """
    if not path.exists():
        return None
    if not zipfile.is_zipfile(path):
        raise RunFailed(
            f"the checkpoint {path} is truncated or damaged; delete it to train from the start"
        )
    return path
