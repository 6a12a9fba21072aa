"""Largest batch that fits the device's memory."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedConfig

MEMORY_FRACTION = 0.5
"""Usable fraction of the free memory; the rest is for what the estimate leaves out."""

MAX_BATCH_SIZE = {"cpu": 16, "cuda": 256}
"""Larger batches are no faster, but more sequences wait for the longest answer."""


def max_batch_size(config: PreTrainedConfig, dtype: torch.dtype, tokens: int, logits: int) -> int:
    """Number of sequences that fit into memory, at least 1.

    Args:
        config: The model's.
        dtype: Of the weights.
        tokens: Length of the longest sequence, prompt and answer.
        logits: Positions per sequence whose logits are computed at once.
    """
    on_gpu = torch.cuda.is_available()
    free = _free_gpu_memory() if on_gpu else _free_memory()
    size = int(MEMORY_FRACTION * free / bytes_per_sequence(config, dtype.itemsize, tokens, logits))
    return max(1, min(size, MAX_BATCH_SIZE["cuda" if on_gpu else "cpu"]))


def bytes_per_sequence(config: PreTrainedConfig, itemsize: int, tokens: int, logits: int) -> int:
    """Bytes of the KV cache, the activations of one layer, and the logits, twice in float32."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * heads * head_dim * itemsize
    layer = (8 * config.hidden_size + 3 * config.intermediate_size) * itemsize
    return tokens * (cache + layer) + logits * config.vocab_size * (8 + itemsize)


def _free_gpu_memory() -> int:
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def _free_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 2**30  # a cautious guess for systems without this line
