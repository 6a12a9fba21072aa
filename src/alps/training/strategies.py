"""How ranks share a training: alone, replicated (DDP) or sharded (FSDP2)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.optim import Optimizer

from alps.training.checkpoint import read_checkpoint, write_sharded_checkpoint

RANK_TIMEOUT = timedelta(hours=2)
"""Longest wait of ranks for each other: rank 0 alone judges generated code."""


def build_strategy(
    kind: Literal["single", "ddp", "fsdp"], world_size: int, gpu: bool
) -> Strategy | Literal["auto"]:
    """Lightning's strategy.

    Args:
        kind: One process, the whole model on each rank, or a shard of it.
        world_size: Number of ranks on all nodes.
        gpu: Whether ranks have GPUs.
    """
    group: dict[str, Any] = {
        "process_group_backend": "nccl" if gpu else "gloo",
        "timeout": RANK_TIMEOUT,
    }
    if kind == "single":
        return "auto"
    if kind == "fsdp":
        return ShardedStrategy(data_parallel_size=world_size, tensor_parallel_size=1, **group)
    # Every rank has loaded the same base and drawn the same adapters, so only gradients travel.
    # Buffers are constant, and gradients lie in DDP's buckets instead of beside them.
    return DDPStrategy(
        **group, init_sync=False, broadcast_buffers=False, gradient_as_bucket_view=True
    )


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 whose checkpoints hold the trainable state only and are written atomically.

    `AlignmentModule.configure_model` shards the model. Checkpoints resume on any number of ranks,
    and under any other strategy.
    """

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Shards of the trainable parameters, by name."""
        assert self.model is not None
        return {n: p.detach() for n, p in self.model.named_parameters() if p.requires_grad}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's own state, with shards."""
        return getattr(optimizer, "_optimizer", optimizer).state_dict()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Writes a folder beside `filepath`, one file per rank."""
        write_sharded_checkpoint(checkpoint, Path(filepath))

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Restores parameters and optimizer from this rank's part of a checkpoint."""
        model, (optimizer,) = self.model, self.optimizers
        assert isinstance(model, nn.Module)
        checkpoint = read_checkpoint(Path(checkpoint_path), dict(model.named_parameters()))
        optimizer.load_state_dict(checkpoint["optimizer_states"][0])
        return checkpoint
