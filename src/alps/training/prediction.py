"""Predicted FLOPs and memory of a training, and the micro-batch size that fits."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from alps.cost.flops import Workload, flops_vs_full, step_flops
from alps.cost.memory import USABLE_MEMORY, largest_micro_batch, peak_memory, storage
from alps.cost.shape import ModelShape
from alps.data.encoding.dataset import EncodedDataset
from alps.models.training_plan import TrainingPlan
from alps.runs.result import RunFailed
from alps.settings.run import Run


def predict_cost(
    run: Run, base: Path, plan: TrainingPlan, rows: EncodedDataset, micro_batch: int, precision: str
) -> dict[str, float]:
    """FLOPs per token, and memory of the largest micro-batch.

    Args:
        run: The run.
        base: Folder of its base model.
        plan: Parameters to train.
        rows: Encoded training examples.
        micro_batch: Examples per forward pass.
        precision: Precision that the trainer uses.
    """
    shape, size = ModelShape.read(base), min(micro_batch, len(rows))
    lengths, answers = rows.lengths.tolist(), rows.num_answers.tolist()
    work = Workload.of(lengths, answers, run.optim.batch_size)
    flops = step_flops(shape, plan, work)
    packed = run.data.batching in ("auto", "packed")
    longest = sorted(lengths)[-size:]
    tokens = sum(longest) if packed else size * max(lengths)
    most_answers = sum(sorted(answers)[-size:])
    memory = peak_memory(shape, plan, tokens, most_answers, storage(run, precision))
    return {
        "flops_per_token_forward": flops.forward,
        "flops_per_token_backward": flops.backward,
        "flops_vs_full": flops_vs_full(shape, plan, work),
        "predicted_memory_bytes": memory.total,
    }


def resolve_micro_batch_size(run: Run, base: Path, plan: TrainingPlan, rows: EncodedDataset) -> int:
    """`trainer.micro_batch_size`; for `auto`, the most examples that fit into memory.

    Raises:
        RunFailed: If not even one example fits.
    """
    if run.trainer.micro_batch_size != "auto":
        return run.trainer.micro_batch_size
    longest = int(rows.lengths.max())
    share = float((rows.num_answers / rows.lengths).max())
    on_gpu = torch.cuda.is_available() and run.trainer.accelerator != "cpu"
    precision = "mixed" if on_gpu else "32"
    budget = int(USABLE_MEMORY * device_memory(on_gpu, run.trainer.num_devices))
    stored = storage(run, precision)
    try:
        most = largest_micro_batch(ModelShape.read(base), plan, longest, share, budget, stored)
    except ValueError as error:
        raise RunFailed(str(error)) from None
    return min(most, -(-run.optim.batch_size // run.trainer.world_size))


def device_memory(on_gpu: bool, devices: int) -> int:
    """Total memory of a rank's device in bytes; free memory would differ by rank and attempt."""
    if on_gpu:
        return torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // devices
