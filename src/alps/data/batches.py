"""The batch of each step: a pure function of (seed, step, rank), so that nothing needs saving.

An optimizer step sees `batch_size` examples over all ranks; the last step of an epoch sees what is
left. A rank's share is cut into micro-batches, always the same number of them, with empty ones at
the end where the share is short.
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

from alps.data.encoding.dataset import EncodedRows
from alps.data.encoding.encode import EncodedRow
from alps.models.loss import IGNORE

Batching = Literal["packed", "grouped", "padded"]
"""How a micro-batch stands in memory: samples behind each other, rows of similar length padded to
the longest, or rows in the order they were drawn, padded likewise. The examples are the same."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Which examples belong to which step.

    Attributes:
        num_examples: Training rows.
        batch_size: Examples in one optimizer step, over all ranks.
        epochs: Passes over the rows.
        max_steps: Upper limit of optimizer steps, or None.
        seed: Seed of the order.
        world_size: Ranks.
        micro_batch_size: Rows in one forward pass.
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
        """Optimizer steps in a pass over the rows; the last one may be short."""
        return -(-self.num_examples // self.batch_size)

    @property
    def num_steps(self) -> int:
        """All optimizer steps."""
        steps = self.epochs * self.steps_per_epoch
        return min(steps, self.max_steps or steps)

    @property
    def num_micro(self) -> int:
        """Micro-batches in an optimizer step, on each rank."""
        share = -(-min(self.batch_size, self.num_examples) // self.world_size)
        return -(-share // self.micro_batch_size)

    def examples(self, step: int) -> list[int]:
        """Rows of an optimizer step (0-based), over all ranks."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        order = _order(self.num_examples, self.seed, epoch)
        return order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


@lru_cache(maxsize=2)  # the epoch that ends and the one that begins
def _order(num_examples: int, seed: int, epoch: int) -> Int[np.ndarray, " examples"]:
    """The order of an epoch: a function of these three alone."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(num_examples, generator=generator).numpy()


class MicroBatches(Dataset[dict[str, Any]]):
    """Micro-batch k of one rank, padded; k runs over all steps and their micro-batches."""

    def __init__(
        self,
        rows: EncodedRows,
        schedule: Schedule,
        rank: int,
        pad_id: int,
        batching: Batching = "packed",
    ):
        """Remembers the rows; nothing is computed before a batch is asked for."""
        self.rows, self.schedule, self.rank, self.pad_id = rows, schedule, rank, pad_id
        self.batching = batching

    def __len__(self) -> int:
        return self.schedule.num_steps * self.schedule.num_micro

    def __getitem__(self, k: int) -> dict[str, Any]:
        """Tensors of micro-batch k.

        Returns:
            input_ids, labels of shape (rows, length); `num_tokens` without padding;
            `step_answer_tokens`, the number of answer tokens in the whole optimizer step over all
            ranks; of a packed row, position_ids and the `lengths` of its samples.
        """
        step, micro = divmod(k, self.schedule.num_micro)
        members = self.schedule.examples(step)
        total = int(self.rows.num_answers[members].sum())
        if self.batching != "padded":
            members = sorted(members, key=lambda i: (-self.rows.lengths[i], i))
        share = members[self.rank :: self.schedule.world_size]
        size = self.schedule.micro_batch_size
        chosen = [self.rows[i] for i in share[micro * size : (micro + 1) * size]]
        together = pack if self.batching == "packed" else pad
        return {**together(chosen, self.pad_id), "step_answer_tokens": total}


class FromStep(Sampler[int]):
    """Micro-batches from the one where a resumed training goes on."""

    def __init__(self, total: int, first: Any):
        """`first()` is asked when iteration begins, after the trainer restored its state."""
        self.total, self.first = total, first

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first(), self.total))


def pack(rows: Sequence[EncodedRow], pad_id: int) -> dict[str, Any]:
    """One row of samples, one behind the other, without padding.

    Positions begin anew with each sample, and so does attention (`alps.models.packed_attention`).
    The first token of a sample has no label: the token before it belongs to another.
    No rows give one sample of two padding tokens without a label.
    """
    samples = [pad([row], pad_id) for row in rows] or [pad([], pad_id)]
    lengths = [sample["input_ids"].shape[1] for sample in samples]
    joined = {n: torch.cat([s[n] for s in samples], dim=1) for n in ("input_ids", "labels")}
    assert all(int(sample["labels"][0, 0]) == IGNORE for sample in samples)
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    num_tokens = sum(len(row.ids) for row in rows)
    return {**joined, "position_ids": positions, "lengths": lengths, "num_tokens": num_tokens}


def pad(rows: Sequence[EncodedRow], pad_id: int) -> dict[str, Any]:
    """Right-padded tensors; labels stand at the answer's own positions (not shifted).

    No rows give one row of two padding tokens without a label: a forward pass whose loss is zero.
    """
    length = max((len(r.ids) for r in rows), default=2)
    count = max(len(rows), 1)
    ids = torch.full((count, length), pad_id)
    labels = torch.full((count, length), IGNORE)
    for i, row in enumerate(rows):
        n, start = len(row.ids), row.answer_start
        ids[i, :n] = torch.tensor(row.ids)
        labels[i, start:n] = ids[i, start:n]
    return {"input_ids": ids, "labels": labels, "num_tokens": sum(len(r.ids) for r in rows)}
