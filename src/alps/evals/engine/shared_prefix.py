"""The tokens all prompts of a batch begin with (instructions, shots), computed once.

Few-shot prompts of a benchmark differ in their last part only. The keys and values of what they
share are computed for one row and repeated; the next batch finds them already there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import DynamicCache

from alps.evals.engine.kv_cache import roomy_cache

FEWEST_TOKENS = 32
"""A shorter prefix is not worth the bookkeeping."""


class Prefix(NamedTuple):
    """The beginning of some rows.

    Attributes:
        ids: Its tokens.
        cache: Their keys and values, for one row; it may hold more tokens behind them.
    """

    ids: Int[Tensor, " tokens"]
    cache: DynamicCache


class SharedPrefix:
    """Computes the prefix of a batch, or finds it in the batch before."""

    def __init__(self, model: Any):
        """Of this model; one whose layers forget what lies far back has none."""
        self.model = model
        self.possible = not getattr(model.config, "sliding_window", None)
        self._last: Prefix | None = None

    def of(self, rows: Int[Tensor, "rows tokens"], longest: int) -> Prefix | None:
        """What the rows begin with, or None if it is too short or there is but one row.

        Args:
            rows: Token ids, without padding on the left.
            longest: Tokens that a prefix may have: every row goes on behind it.
        """
        if not self.possible or longest < FEWEST_TOKENS:
            return None
        length = _equal((rows[:, :longest] == rows[0, :longest]).all(0))
        if self._last is not None:
            both = min(length, len(self._last.ids))
            known = _equal(self._last.ids[:both] == rows[0, :both])
            if known >= FEWEST_TOKENS and known * 5 >= length * 4:  # most of it is good enough
                return Prefix(self._last.ids[:known], self._last.cache)
        if length < FEWEST_TOKENS or len(rows) == 1:
            return None
        self._last = self._compute(rows[0, :length])
        return self._last

    def _compute(self, ids: Int[Tensor, " tokens"]) -> Prefix:
        cache = DynamicCache()
        with torch.no_grad():
            self.model(input_ids=ids[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
        return Prefix(ids.clone(), cache)


def repeated(prefix: Prefix, rows: int, room: int) -> DynamicCache:
    """A cache of its own for some rows that all begin with the prefix.

    Args:
        prefix: What they begin with.
        rows: How many.
        room: Longest of them, with what is generated.
    """
    layers: list[Any] = prefix.cache.layers
    cache = roomy_cache(len(layers), room)
    length = len(prefix.ids)
    for number, layer in enumerate(layers):
        keys, values = layer.keys[:, :, :length], layer.values[:, :, :length]
        shape = (rows, -1, -1, -1)
        cache.update(keys.expand(shape), values.expand(shape), number)
    return cache


def left_aligned(
    ids: Int[Tensor, "rows tokens"], mask: Int[Tensor, "rows tokens"]
) -> tuple[Int[Tensor, "rows tokens"], int]:
    """Rows padded on the left, moved to begin at the left, and the length of the shortest."""
    lengths = mask.sum(1)
    moved = ids.clone()
    for row, length in enumerate(lengths.tolist()):
        moved[row] = ids[row].roll(length - ids.shape[1])
    return moved, int(lengths.min())


def prefix_first(
    ids: Int[Tensor, "rows tokens"], mask: Int[Tensor, "rows tokens"], length: int
) -> tuple[Int[Tensor, "rows tokens"], Bool[Tensor, "rows tokens"]]:
    """Rows padded on the left, with the padding moved behind their first `length` tokens.

    Returns:
        Token ids, and which of them are no padding.
    """
    places = torch.arange(ids.shape[1], device=ids.device)
    start = ids.shape[1] - mask.sum(1, keepdim=True)
    moved = torch.where(places < length, (places + start).clamp(max=ids.shape[1] - 1), places)
    padding = (places >= length) & (places < start + length)
    return ids.gather(1, moved), ~padding


def _equal(same: Bool[Tensor, " tokens"]) -> int:
    """How many are true before the first that is not."""
    return int(same.long().cumprod(0).sum())
