"""Bytes per element of what a training keeps in memory, and how devices share it."""

from __future__ import annotations

from dataclasses import dataclass

from alps.settings.run import Run

FLOAT32_BYTES = 4
"""Bytes of a float32 element; norms and the loss are float32 under any precision."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Bytes per element of parameters and activations.

    Attributes:
        trainable_bytes: Trainable parameters, their gradients and optimizer states.
        frozen_bytes: Frozen parameters.
        matrix_bytes: Frozen matrices of layers, if different: 0.5625 in 4 bits with a float32 scale
            per block of 64.
        activation_bytes: Inputs and outputs of matrix products: 2 under mixed precision.
        optimizer_states: Optimizer states per trainable parameter: AdamW's two moments.
        checkpointing: Whether activations inside a layer are recomputed in the backward pass.
        shards: Devices that share weights, gradients and optimizer states (FSDP); 1 for none.
        buckets: Whether gradients lie in DDP's buckets.
        joined: Whether attention runs example by example of a packed sequence, and its outputs are
            concatenated: the kernel for all examples is for GPUs and half precision.
        loss_chunk: Answer tokens whose logits are in memory at once, or None for all.
        resident: Whether to predict the resident memory of a process on a CPU, instead of the
            allocated memory of a GPU.
    """

    trainable_bytes: int = 4
    frozen_bytes: int = 4
    matrix_bytes: float | None = None
    activation_bytes: int = 4
    optimizer_states: int = 2
    checkpointing: bool = False
    shards: int = 1
    buckets: bool = False
    joined: bool = False
    loss_chunk: int | None = None
    resident: bool = False

    @property
    def mixed(self) -> bool:
        """Whether matrix products use copies in lower precision."""
        return self.activation_bytes < self.trainable_bytes


FLOAT32 = Storage()
"""Everything in float32 on one device."""


def storage(run: Run, precision: str, on_gpu: bool) -> Storage:
    """Storage of a run.

    Args:
        run: The run.
        precision: Precision that its trainer uses.
        on_gpu: Whether it trains on GPUs.
    """
    half = "mixed" in precision or "16" in precision
    return Storage(
        frozen_bytes=4 if run.optim.frozen_dtype == "float32" else 2,
        matrix_bytes=0.5625 if run.optim.frozen_dtype == "nf4" else None,
        activation_bytes=2 if half else 4,
        checkpointing=run.trainer.activation_checkpointing,
        shards=run.trainer.world_size if run.strategy == "fsdp" else 1,
        buckets=run.strategy == "ddp",
        joined=run.data.batching in ("auto", "packed") and not (on_gpu and half),
        loss_chunk=run.trainer.loss_chunk,
        resident=not on_gpu,
    )
