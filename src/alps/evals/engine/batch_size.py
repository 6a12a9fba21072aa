"""How many rows a device's memory holds side by side."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedConfig

SHARE = 0.5
"""Of the free memory; the rest is for what is not counted here."""

MOST_ROWS = {"cpu": 16, "cuda": 256}
"""Where more rows bring no more speed, but let more of them wait for the longest answer."""


def fitting(config: PreTrainedConfig, dtype: torch.dtype, tokens: int, logits: int) -> int:
    """Rows that fit, at least 1.

    Args:
        config: The model's.
        dtype: Of its weights.
        tokens: Longest row, prompt and answer.
        logits: Positions of a row whose logits are computed at once.
    """
    on_gpu = torch.cuda.is_available()
    free = _free_on_gpu() if on_gpu else _free_memory()
    rows = int(SHARE * free / bytes_of_row(config, dtype.itemsize, tokens, logits))
    return max(1, min(rows, MOST_ROWS["cuda" if on_gpu else "cpu"]))


def bytes_of_row(config: PreTrainedConfig, itemsize: int, tokens: int, logits: int) -> int:
    """Memory of one row: keys and values, activations of a layer, logits twice in float32."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * heads * head_dim * itemsize
    layer = (8 * config.hidden_size + 3 * config.intermediate_size) * itemsize
    return tokens * (cache + layer) + logits * config.vocab_size * (8 + itemsize)


def _free_on_gpu() -> int:
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def _free_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 2**30  # another system: a cautious guess
