"""LightningModule of a causal language model that is partly trainable."""

from __future__ import annotations

import random
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method

from alps.base.hashing import digest
from alps.data.batches import Schedule
from alps.models.loss import answer_loss
from alps.runs.result import RunFailed
from alps.settings.run import Optim
from alps.training.optimizer import build_optimizer, build_schedule
from alps.training.sharding import is_sharded, load_shards, shard


class AlignmentModule(pl.LightningModule):
    """Fine-tunes the trainable parameters on answer tokens (Algorithm 1, line 13).

    The loss of an optimizer step is the mean over the answer tokens of all its micro-batches and
    ranks. Lightning divides by the number of micro-batches and DDP by the number of ranks, so
    `training_step` multiplies by both.
    """

    def __init__(
        self,
        model: nn.Module,
        optim: Optim,
        schedule: Schedule,
        seed: int,
        base: Path | None = None,
        loss_chunk: int | None = None,
    ):
        """Trains `model` on the steps of `schedule`.

        Args:
            model: Model with a training plan applied; on the meta device, if it will be sharded.
            optim: Optimizer settings.
            schedule: Assignment of examples to steps.
            seed: Seed of the training.
            base: Folder of the base model, if the model is to be sharded.
            loss_chunk: Answer tokens whose logits are in memory at once, or None for all.
        """
        super().__init__()
        self.model, self.optim, self.schedule, self.seed = model, optim, schedule, seed
        self.base, self.loss_chunk = base, loss_chunk
        self.step_loss = torch.zeros(())
        self.step_tokens = 0
        self.last_lr = 0.0
        self.step_start: float | None = None
        self.strict_loading = False  # checkpoints hold trainable parameters only

    def configure_model(self) -> None:
        """Shards the model over the ranks and loads this rank's part (FSDP)."""
        if self.base is None or is_sharded(self.model):
            return
        mesh = self.device_mesh
        assert mesh is not None
        mixed = str(self.trainer.precision) == "bf16-mixed"
        shard(self, self.model, mesh["data_parallel"], mixed)
        register_fsdp_forward_method(self, "training_step")
        torch.manual_seed(self.seed)  # for the initialization of adapters
        load_shards(self.model, self.base, self.trainer.strategy.root_device)

    def on_fit_start(self) -> None:
        """Sets training mode for all modules, including frozen ones."""
        self.model.train()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds each micro-batch by its index, so that resumed trainings sample the same values.

        Lightning calls it after the hooks of all callbacks, so the first step's time starts here.
        """
        seed = int(digest([self.seed, batch_idx, self.global_rank])[:8], 16)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        if self.step_start is None:
            self.step_start = perf_counter()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Starts the next step's time after the hooks of all callbacks."""
        if (batch_idx + 1) % self.schedule.num_micro == 0:
            self.step_start = perf_counter()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one micro-batch, scaled so that the gradients of a step sum to the mean."""
        if batch_idx % self.schedule.num_micro == 0:
            self.step_loss, self.step_tokens = torch.zeros((), device=self.device), 0
        packed = batch.get("position_ids"), batch.get("lengths")
        tokens = batch["input_ids"], batch["labels"]
        loss = answer_loss(self.model, *tokens, *packed, chunk=self.loss_chunk)
        self.step_loss += loss.detach()
        self.step_tokens += batch["num_tokens"]
        parts = self.schedule.num_micro * self.schedule.world_size
        return loss * (parts / max(batch["step_answer_tokens"], 1))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stops before a step with a non-finite loss."""
        self.last_lr = optimizer.param_groups[0]["lr"]
        if not torch.isfinite(self.step_loss):
            raise RunFailed(
                f"the loss became {float(self.step_loss)} at step {self.global_step + 1}; a lower "
                f"optim.lr (now {self.optim.lr:g}) or another optim.precision may help"
            )

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by the norm of all gradients.

        Lightning refuses to do so for a fused optimizer under autocast, though only one that
        unscales fp16 gradients itself cannot be clipped.
        """
        if gradient_clip_val is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def configure_optimizers(self) -> Any:
        """AdamW with a schedule per optimizer step."""
        fused = self.trainer.precision != "16-mixed"
        optimizer = build_optimizer(self.parameters(), self.optim, fused)
        schedule = build_schedule(optimizer, self.optim, self.schedule.num_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out frozen parameters, which are the base model's."""
        trained = {n for n, p in self.named_parameters() if p.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {n: t for n, t in state.items() if n in trained}
        names = {parameter: name for name, parameter in self.named_parameters()}
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        order = [names[p] for group in optimizer.param_groups for p in group["params"]]
        checkpoint["optimizer_names"] = order  # its state has numbers only

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Sets the number of finished micro-batches, which depends on devices and memory.

        Checkpoints are written after whole steps, and the examples of a step are the same.
        """
        done = checkpoint["global_step"] * self.schedule.num_micro
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            counts.update(dict.fromkeys(counts, done))
