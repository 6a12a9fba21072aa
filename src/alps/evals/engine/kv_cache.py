"""Preallocated KV cache: transformers' dynamic cache copies all keys and values at every token."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """Keys and values of a layer, [batch, KV heads, tokens, head_dim], at the start of a buffer."""

    def __init__(self, capacity: int):
        """The first update allocates the buffer.

        Args:
            capacity: Expected number of tokens; the buffer grows if there are more.
        """
        super().__init__()
        self.capacity = capacity
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Appends new tokens; returns all keys and values as views of the buffer."""
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if self._buffers is None or after > self._buffers[0].shape[-2]:
            self._allocate(key_states, value_states, max(self.capacity, after))
        assert self._buffers is not None
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, before:after] = new
        self.keys, self.values = (buffer[:, :, :after] for buffer in self._buffers)
        return self.keys, self.values

    def _allocate(self, key_states: Tensor, value_states: Tensor, capacity: int) -> None:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        buffers = []
        for old, new in ((self.keys, key_states), (self.values, value_states)):
            buffer = new.new_empty((*new.shape[:2], capacity, new.shape[-1]))
            if old is not None and old.numel():
                buffer[:, :, : old.shape[-2]] = old
            buffers.append(buffer)
        self._buffers = (buffers[0], buffers[1])


def preallocated_cache(num_layers: int, capacity: int) -> DynamicCache:
    """An empty cache that allocates its memory once.

    Args:
        num_layers: Layers of the model.
        capacity: Length of the longest sequence, prompt and answer.
    """
    cache = DynamicCache()
    layers: list[Any] = [PreallocatedLayer(capacity) for _ in range(num_layers)]
    cache.layers = layers
    return cache
