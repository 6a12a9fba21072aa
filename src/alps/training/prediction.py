"""Predicted FLOPs and memory of a training, and the micro-batch size that fits."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from alps.cost.flops import Workload, flops_vs_full, step_flops
from alps.cost.memory import peak_memory
from alps.cost.micro_batch import USABLE_MEMORY, largest_micro_batch
from alps.cost.shape import ModelShape
from alps.cost.storage import storage
from alps.data.batches import Schedule
from alps.data.encoding.dataset import EncodedDataset
from alps.models.training_plan import TrainingPlan
from alps.runs.result import RunFailed
from alps.settings.run import Run


def predict_cost(
    run: Run,
    base: Path,
    plan: TrainingPlan,
    rows: EncodedDataset,
    schedule: Schedule,
    precision: str,
) -> dict[str, float]:
    """FLOPs per token, and memory of the largest micro-batch.

    The memory is comparable with `peak_memory_bytes` of `training.json`: on a GPU both are the
    allocated memory of tensors, on a CPU the resident memory of a rank's process, with the program.

    Args:
        run: The run.
        base: Folder of its base model.
        plan: Parameters to train.
        rows: Encoded training examples.
        schedule: Their assignment to micro-batches.
        precision: Precision that the trainer uses.
    """
    shape = ModelShape.read(base)
    lengths, answers = rows.lengths.tolist(), rows.num_answers.tolist()
    work = Workload.of(lengths, answers, run.optim.batch_size)
    flops = step_flops(shape, plan, work)
    tokens, most_answers = largest_batch(rows, schedule, run.data.batching)
    stored = storage(run, precision, uses_gpu(run))
    return {
        "flops_per_token_forward": flops.forward,
        "flops_per_token_backward": flops.backward,
        "flops_vs_full": flops_vs_full(shape, plan, work),
        "predicted_memory_bytes": peak_memory(shape, plan, tokens, most_answers, stored).total,
    }


def largest_batch(rows: EncodedDataset, schedule: Schedule, batching: str) -> tuple[int, int]:
    """Most tokens (with padding) and most answer tokens in a micro-batch of any rank."""
    tokens = answers = 0
    for step in range(schedule.num_steps):
        members = schedule.examples(step)
        if batching != "padded":
            members = sorted(members, key=lambda i: (-rows.lengths[i], i))
        for rank in range(schedule.world_size):
            share = members[rank :: schedule.world_size]
            for start in range(0, len(share), schedule.micro_batch_size):
                chosen = share[start : start + schedule.micro_batch_size]
                lengths = rows.lengths[chosen]
                padded = len(chosen) * lengths.max()
                size = lengths.sum() if batching in ("auto", "packed") else padded
                tokens = max(tokens, int(size))
                answers = max(answers, int(rows.num_answers[chosen].sum()))
    return tokens, answers


def automatic_micro_batch_size(
    run: Run, base: Path, plan: TrainingPlan, rows: EncodedDataset
) -> int:
    """The most examples that fit into memory as predicted; one if that may exceed a GPU's.

    Raises:
        RunFailed: If not even one example fits.
    """
    longest = int(rows.lengths.max())
    share = float((rows.num_answers / rows.lengths).max())
    on_gpu = uses_gpu(run)
    stored = storage(run, run.precision_on(on_gpu), on_gpu)
    memory, shape = device_memory(on_gpu, run.trainer.num_devices), ModelShape.read(base)

    def most(budget: int) -> int:
        return largest_micro_batch(shape, plan, longest, share, budget, stored)

    try:
        size = most(int(USABLE_MEMORY * memory))
    except ValueError as error:
        try:
            size = min(most(memory * on_gpu), 1)
        except ValueError:
            raise RunFailed(str(error)) from None
    return min(size, -(-run.optim.batch_size // run.trainer.world_size))


def uses_gpu(run: Run) -> bool:
    """Whether a run is trained and evaluated on GPUs."""
    return torch.cuda.is_available() and run.trainer.accelerator != "cpu"


def device_memory(on_gpu: bool, devices: int) -> int:
    """Total memory of a rank's device in bytes; free memory would differ by rank and attempt."""
    if on_gpu:
        return torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // devices
