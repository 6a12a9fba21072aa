"""`metrics.csv`: one line per optimizer step, the same after an interruption as without one."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from alps.base.atomic import write_json, write_text
from alps.runs.folder import RunFolder
from alps.runs.metrics import COLUMNS, read_metrics
from alps.training import memory
from alps.training.step_callback import StepCallback


class Metrics(StepCallback):
    """Measures each step on all ranks and appends it to `metrics.csv` on rank 0.

    Seconds cover reading batches, forward, backward and optimizer, from the first batch on; the
    time of callbacks that evaluate, log or save checkpoints is excluded. Peak memory is that of the
    rank with the highest. Checkpoints carry seconds, tokens and peak memory, so that an interrupted
    training reports those of all attempts (excluding steps repeated after a kill). Must be the
    first callback.
    """

    def __init__(self, folder: RunFolder):
        """Writes to the folder of a run; `scores` holds evaluation metrics for loggers."""
        self.folder, self.path = folder, folder.metrics_path
        self.latest: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.seconds, self.tokens, self.peak = 0.0, 0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drops the lines of steps that will be repeated."""
        memory.reset_peak(_on_gpu(pl_module))
        if trainer.is_global_zero:
            schedule: Any = pl_module.schedule
            write_json(self.folder.schedule_path, {"num_steps": schedule.num_steps})
            kept = [r for r in read_metrics(self.path) if int(r["step"]) <= trainer.global_step]
            lines = [",".join(COLUMNS), *(",".join(r[c] for c in COLUMNS) for r in kept)]
            write_text(self.path, "\n".join(lines) + "\n")

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Writes one line per optimizer step."""
        loss = module.step_loss.double()
        sums = torch.stack([loss, torch.full_like(loss, module.step_tokens)])
        peak = torch.full_like(loss, memory.peak_bytes(_on_gpu(module)))  # exact in float64
        if dist.is_initialized():
            dist.all_reduce(sums)
            dist.all_reduce(peak, op=dist.ReduceOp.MAX)
        self.tokens += int(sums[1])  # synchronizes with the device
        self.seconds += perf_counter() - module.step_start
        self.peak = max(self.peak, int(peak))
        answers = max(int(batch["step_answer_tokens"]), 1)
        self.latest = {
            "step": trainer.global_step,
            "loss": float(sums[0]) / answers,
            "lr": module.last_lr,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
        }
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(",".join(str(self.latest[c]) for c in COLUMNS) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """State carried over by checkpoints."""
        return {"seconds": self.seconds, "tokens": self.tokens, "peak": self.peak}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state of a checkpoint."""
        self.seconds, self.tokens = state_dict["seconds"], state_dict["tokens"]
        self.peak = state_dict["peak"]


def _on_gpu(module: pl.LightningModule) -> bool:
    return module.device.type == "cuda"
