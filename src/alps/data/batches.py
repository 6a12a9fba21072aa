"""Micro-batches as a pure function of (seed, step, rank), so that a sampler has no state to save.

An optimizer step has `batch_size` examples over all ranks, the last step of an epoch the rest. Each
rank splits its share into the same number of micro-batches; the last are empty if it is short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import Dataset, Sampler

from alps.data.encoding.dataset import EncodedDataset
from alps.data.encoding.encode import EncodedExample
from alps.models.loss import IGNORE

Batching = Literal["packed", "grouped", "padded"]
"""Layout of a micro-batch: examples concatenated without padding, grouped by length and padded, or
padded in sampling order. The examples of a step are the same."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Assignment of examples to optimizer steps.

    Attributes:
        num_examples: Number of training examples.
        batch_size: Examples in an optimizer step, over all ranks.
        epochs: Passes over the examples.
        max_steps: Maximum number of optimizer steps, or None.
        seed: Seed of the order.
        world_size: Number of ranks.
        micro_batch_size: Examples in a forward pass.
    """

    num_examples: int
    batch_size: int
    epochs: int
    max_steps: int | None
    seed: int
    world_size: int = 1
    micro_batch_size: int = 8

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last may be short."""
        return -(-self.num_examples // self.batch_size)

    @property
    def num_steps(self) -> int:
        """Number of optimizer steps."""
        steps = self.epochs * self.steps_per_epoch
        return min(steps, self.max_steps or steps)

    @property
    def num_micro(self) -> int:
        """Micro-batches in an optimizer step on each rank."""
        share = -(-min(self.batch_size, self.num_examples) // self.world_size)
        return -(-share // self.micro_batch_size)

    def examples(self, step: int) -> list[int]:
        """Indices of the examples in an optimizer step (0-based), over all ranks."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        order = _order(self.num_examples, self.seed, epoch)
        return order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


@lru_cache(maxsize=2)  # at the boundary of two epochs
def _order(num_examples: int, seed: int, epoch: int) -> Int[np.ndarray, " examples"]:
    """Permutation of an epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(num_examples, generator=generator).numpy()


class MicroBatches(Dataset[dict[str, Any]]):
    """Micro-batches of one rank; index k runs over all steps and their micro-batches."""

    def __init__(
        self,
        dataset: EncodedDataset,
        schedule: Schedule,
        rank: int,
        pad_id: int,
        batching: Batching = "packed",
    ):
        """Keeps the arguments; a batch is computed when it is requested."""
        self.dataset, self.schedule, self.rank, self.pad_id = dataset, schedule, rank, pad_id
        self.batching = batching

    def __len__(self) -> int:
        return self.schedule.num_steps * self.schedule.num_micro

    def __getitem__(self, k: int) -> dict[str, Any]:
        """Tensors of micro-batch k.

        Returns:
            `input_ids` and `labels` of shape (examples, length), or (1, length) if packed;
            `num_tokens` without padding; `step_answer_tokens`, the answer tokens of the optimizer
            step over all ranks; if packed, `position_ids` and the `lengths` of the examples.
        """
        step, micro = divmod(k, self.schedule.num_micro)
        members = self.schedule.examples(step)
        total = int(self.dataset.num_answers[members].sum())
        if self.batching != "padded":
            members = sorted(members, key=lambda i: (-self.dataset.lengths[i], i))
        share = members[self.rank :: self.schedule.world_size]
        size = self.schedule.micro_batch_size
        chosen = [self.dataset[i] for i in share[micro * size : (micro + 1) * size]]
        collate = pack if self.batching == "packed" else pad
        return {**collate(chosen, self.pad_id), "step_answer_tokens": total}


class FromStep(Sampler[int]):
    """Indices of micro-batches, from the first that a resumed training has not seen."""

    def __init__(self, total: int, first: Any):
        """`first()` is called when iteration begins, after the trainer restored its state."""
        self.total, self.first = total, first

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first(), self.total))


def pack(examples: Sequence[EncodedExample], pad_id: int) -> dict[str, Any]:
    """Examples concatenated to one sequence without padding.

    Positions restart with each example, and so does attention (`alps.models.packed_attention`).
    The first token of an example has no label: the token before it belongs to another example.
    No examples yield two padding tokens without labels.
    """
    samples = [pad([example], pad_id) for example in examples] or [pad([], pad_id)]
    lengths = [sample["input_ids"].shape[1] for sample in samples]
    joined = {n: torch.cat([s[n] for s in samples], dim=1) for n in ("input_ids", "labels")}
    assert all(int(sample["labels"][0, 0]) == IGNORE for sample in samples)
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    num_tokens = sum(len(example.ids) for example in examples)
    return {**joined, "position_ids": positions, "lengths": lengths, "num_tokens": num_tokens}


def pad(examples: Sequence[EncodedExample], pad_id: int) -> dict[str, Any]:
    """Right-padded tensors; labels are at the answer's own positions (not shifted).

    No examples yield two padding tokens without labels: a forward pass whose loss is zero.
    """
    length = max((len(e.ids) for e in examples), default=2)
    count = max(len(examples), 1)
    ids = torch.full((count, length), pad_id)
    labels = torch.full((count, length), IGNORE)
    for i, example in enumerate(examples):
        n, start = len(example.ids), example.answer_start
        ids[i, :n] = torch.tensor(example.ids)
        labels[i, start:n] = ids[i, start:n]
    return {"input_ids": ids, "labels": labels, "num_tokens": sum(len(e.ids) for e in examples)}
