"""Prefix caching: the shared prefix of a batch (instructions, shots) is computed once.

Few-shot prompts of a benchmark differ in their last part only. The keys and values of the shared
prefix are computed for one sequence and expanded to the batch; later batches reuse them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import DynamicCache

from alps.evals.engine.kv_cache import preallocated_cache

MIN_PREFIX_TOKENS = 32
"""A shorter prefix is not worth the bookkeeping."""


class Prefix(NamedTuple):
    """A shared prefix.

    Attributes:
        ids: Its tokens.
        cache: Keys and values of one sequence; it may be longer than the prefix.
    """

    ids: Int[Tensor, " tokens"]
    cache: DynamicCache


class SharedPrefix:
    """The most recent shared prefix of a model's batches."""

    def __init__(self, model: Any):
        """Sliding-window attention is not supported: its cache drops the prefix."""
        self.model = model
        self.supported = not getattr(model.config, "sliding_window", None)
        self._last: Prefix | None = None

    def find(self, ids: Int[Tensor, "batch tokens"], longest: int) -> Prefix | None:
        """The shared prefix of a batch, or None if it is too short or the batch is one sequence.

        Args:
            ids: Token ids, without padding on the left.
            longest: Maximum length of the prefix: every sequence continues behind it.
        """
        if not self.supported or longest < MIN_PREFIX_TOKENS:
            return None
        length = _num_leading((ids[:, :longest] == ids[0, :longest]).all(0))
        if self._last is not None:
            both = min(length, len(self._last.ids))
            known = _num_leading(self._last.ids[:both] == ids[0, :both])
            if known >= MIN_PREFIX_TOKENS and known * 5 >= length * 4:  # at least 80 % of it
                return Prefix(self._last.ids[:known], self._last.cache)
        if length < MIN_PREFIX_TOKENS or len(ids) == 1:
            return None
        self._last = self._compute(ids[0, :length])
        return self._last

    def _compute(self, ids: Int[Tensor, " tokens"]) -> Prefix:
        cache = DynamicCache()
        with torch.no_grad():
            self.model(input_ids=ids[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
        return Prefix(ids.clone(), cache)


def expanded_cache(prefix: Prefix, batch_size: int, capacity: int) -> DynamicCache:
    """A new cache that starts with the prefix in every sequence of a batch.

    Args:
        prefix: The shared prefix.
        batch_size: Number of sequences.
        capacity: Length of the longest sequence, prompt and answer.
    """
    layers: list[Any] = prefix.cache.layers
    cache = preallocated_cache(len(layers), capacity)
    length = len(prefix.ids)
    for number, layer in enumerate(layers):
        keys, values = layer.keys[:, :, :length], layer.values[:, :, :length]
        shape = (batch_size, -1, -1, -1)
        cache.update(keys.expand(shape), values.expand(shape), number)
    return cache


def padded_right(
    ids: Int[Tensor, "batch tokens"], mask: Int[Tensor, "batch tokens"]
) -> tuple[Int[Tensor, "batch tokens"], int]:
    """Left-padded sequences with the padding on the right, and the length of the shortest."""
    lengths = mask.sum(1)
    moved = ids.clone()
    for number, length in enumerate(lengths.tolist()):
        moved[number] = ids[number].roll(length - ids.shape[1])
    return moved, int(lengths.min())


def padding_after_prefix(
    ids: Int[Tensor, "batch tokens"], mask: Int[Tensor, "batch tokens"], length: int
) -> tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """Left-padded sequences with the padding moved behind their first `length` tokens.

    Returns:
        Token ids, and the attention mask.
    """
    positions = torch.arange(ids.shape[1], device=ids.device)
    start = ids.shape[1] - mask.sum(1, keepdim=True)
    shifted = (positions + start).clamp(max=ids.shape[1] - 1)
    source = torch.where(positions < length, shifted, positions)
    padding = (positions >= length) & (positions < start + length)
    return ids.gather(1, source), ~padding


def _num_leading(same: Bool[Tensor, " tokens"]) -> int:
    """Number of true values before the first false one."""
    return int(same.long().cumprod(0).sum())
