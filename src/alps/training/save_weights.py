"""Saves the trained weights at the end of a training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import pytorch_lightning as pl
import torch.distributed as dist
from torch import Tensor, nn

from alps.base.atomic import write_json
from alps.models.rows import ROWS_FILE, rows_of
from alps.models.weights import save_trained
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.run import Run
from alps.training.sharding import trained_parameters


class SaveWeights(pl.Callback):
    """Writes weights, then `training.json`, then deletes the checkpoint, on rank 0.

    Lightning calls every `on_train_end` before the first `on_fit_end`, so callbacks that evaluate
    the model there find its weights on disk.
    """

    def __init__(self, run: Run, measurements: Callable[[pl.Trainer], Mapping[str, Any]]):
        """Saves a run's weights.

        Args:
            run: The run.
            measurements: Content of `training.json`.
        """
        self.run, self.measurements = run, measurements

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Saves after the last step; a training stopped earlier only has its checkpoint.

        Raises:
            RunFailed: If weights are not finite.
        """
        if not training_complete(trainer, pl_module):
            return
        model, folder = pl_module.model, RunFolder(self.run.folder)
        trained = trained_parameters(model)  # of a sharded model on rank 0 only
        if not all(value.isfinite().all() for value in trained.values()):
            raise RunFailed("the last step left weights that are not numbers; try a lower optim.lr")
        if trainer.is_global_zero:
            training_id = folder.training_id if folder.training_path.exists() else uuid4().hex
            save_weights(model, trained, self.run, folder)
            write_json(
                folder.training_path, {"training": training_id, **self.measurements(trainer)}
            )
            shutil.rmtree(folder.checkpoint_path.parent, ignore_errors=True)
        if dist.is_initialized():
            dist.barrier()  # the other ranks read `training.json` next


def training_complete(trainer: pl.Trainer, module: Any) -> bool:
    """Whether all steps of the schedule are done."""
    return trainer.global_step >= module.schedule.num_steps


def save_weights(model: nn.Module, trained: Mapping[str, Tensor], run: Run, folder: RunFolder):
    """Writes the trained parameters; rows of heads also under the base model's names."""
    save_trained(trained, folder.weights_path)
    plan = run.method.plan(folder.read_heads())
    if plan.qkv == "heads" and not plan.rest:
        rows = rows_of(model, run.model.fingerprint(), trained)
        rows.write(folder.weights_path.with_name(ROWS_FILE))
