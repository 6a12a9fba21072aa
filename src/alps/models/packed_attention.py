"""Attention over packed sequences: concatenated examples that do not attend to each other.

Registered with transformers as `alps_packed`. With `lengths`, attention is computed within each
example; without, by transformers' own `sdpa`, so that the same model can generate.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "alps_packed"


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    lengths: Sequence[int] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each example.

    Args:
        module: The attention module.
        query: (1, heads, tokens, head_dim).
        key: (1, KV heads, tokens, head_dim).
        value: Likewise.
        attention_mask: Used only without `lengths`, or if an example exceeds the sliding window.
        lengths: Number of tokens of each example; None for ordinary batches.
        scaling: Factor of the attention scores.
        dropout: Dropout of the attention probabilities.
        sliding_window: Window of sliding-window layers, in tokens.
        **kwargs: Further arguments of transformers, for `sdpa`.

    Returns:
        (1, tokens, heads, head_dim), and no attention weights.
    """
    windowed = sliding_window is not None and lengths and max(lengths) > sliding_window
    if lengths is None or windowed:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    grouped = query.shape[1] != key.shape[1]
    half = query.dtype in (torch.float16, torch.bfloat16)
    if query.is_cuda and half and not dropout and find_spec("torch.nn.attention.varlen"):
        return _varlen(query, key, value, lengths, scaling, grouped), None
    parts = [
        F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
        )
        for q, k, v in zip(
            *(t.split(list(lengths), dim=2) for t in (query, key, value)), strict=True
        )
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    scaling: float | None,
    grouped: bool,
) -> Tensor:
    """One kernel for all examples (torch's flash attention)."""
    from torch.nn.attention.varlen import varlen_attn

    ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=query.device)
    longest = max(lengths)
    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
    shape = (ends, ends, longest, longest)
    causal = {"scale": scaling, "window_size": (-1, 0), "enable_gqa": grouped}
    out = varlen_attn(q, k, v, *shape, **causal)
    assert isinstance(out, Tensor)
    return out[None]


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
