"""Keeps what a training made, before anything else happens to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import pytorch_lightning as pl
import torch.distributed as dist
from torch import nn

from alps.base.atomic import write_json
from alps.models.rows import ROWS_FILE, rows_of
from alps.models.weights import save_trained
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.run import Run


class SaveWeights(pl.Callback):
    """Writes weights, then `training.json`, then drops the resume point; on rank 0.

    Lightning ends all `on_train_end` before the first `on_fit_end`: a callback that examines the
    model there finds its weights on disk.
    """

    def __init__(self, run: Run, measured: Callable[[pl.Trainer], Mapping[str, Any]]):
        """Saves a run.

        Args:
            run: The run.
            measured: What `training.json` shall say.
        """
        self.run, self.measured = run, measured

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """After the last step; a training that was stopped before has nothing to save.

        Raises:
            RunFailed: If weights are not numbers.
        """
        if not training_complete(trainer, pl_module):
            return
        model, folder = pl_module.model, RunFolder(self.run.folder)
        if not all(p.isfinite().all() for p in model.parameters() if p.requires_grad):
            raise RunFailed("the last step left weights that are not numbers; try a lower optim.lr")
        if trainer.is_global_zero:
            name = folder.training_id if folder.training_path.exists() else uuid4().hex
            save_weights(model, self.run, folder)
            write_json(folder.training_path, {"training": name, **self.measured(trainer)})
            folder.checkpoint_path.unlink(missing_ok=True)
        if dist.is_initialized():
            dist.barrier()  # the other ranks read `training.json` next


def training_complete(trainer: pl.Trainer, module: Any) -> bool:
    """Whether all steps of the schedule are done."""
    return trainer.global_step >= module.schedule.num_steps


def save_weights(model: nn.Module, run: Run, folder: RunFolder) -> None:
    """Writes what trained; rows of heads also under their names in the plain model."""
    save_trained(model, folder.weights_path)
    plan = run.method.plan(folder.read_heads())
    if plan.qkv == "heads" and not plan.rest:
        rows = rows_of(model, run.model.fingerprint())
        rows.write(folder.weights_path.with_name(ROWS_FILE))
