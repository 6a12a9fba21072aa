"""Keys and values in room taken once: transformers' own cache copies all of them at every token."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer, [rows, KV heads, tokens, head_dim], in the front of a buffer."""

    def __init__(self, room: int):
        """Takes room at the first update.

        Args:
            room: Tokens that are expected; more of them take new room.
        """
        super().__init__()
        self.room = room
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes new tokens behind those that are there; all of them, as views of the buffer."""
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if self._buffers is None or after > self._buffers[0].shape[-2]:
            self._take(key_states, value_states, max(self.room, after))
        assert self._buffers is not None
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, before:after] = new
        self.keys, self.values = (buffer[:, :, :after] for buffer in self._buffers)
        return self.keys, self.values

    def _take(self, key_states: Tensor, value_states: Tensor, room: int) -> None:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        buffers = []
        for old, new in ((self.keys, key_states), (self.values, value_states)):
            buffer = new.new_empty((*new.shape[:2], room, new.shape[-1]))
            if old is not None and old.numel():
                buffer[:, :, : old.shape[-2]] = old
            buffers.append(buffer)
        self._buffers = (buffers[0], buffers[1])


def roomy_cache(num_layers: int, room: int) -> DynamicCache:
    """A cache that takes its room once.

    Args:
        num_layers: Of the model.
        room: Longest row, prompt and answer.
    """
    cache = DynamicCache()
    layers: list[Any] = [RoomyLayer(room) for _ in range(num_layers)]
    cache.layers = layers
    return cache
