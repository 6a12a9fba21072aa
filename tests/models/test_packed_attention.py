"""Attention within samples is softmax(q k^T * scale) v of each sample, with the scale given."""

import pytest
import torch
from torch import nn

from alps.models.packed_attention import packed_attention

LENGTHS = [5, 3]
SCALE = 0.9  # far from the usual 1 / sqrt(8)


def naive(query, key, value):
    """One head and one token after the other; head h reads KV head h // 2."""
    out, start = torch.zeros(1, sum(LENGTHS), 4, 8), 0
    for length in LENGTHS:
        for token in range(start, start + length):
            for head in range(4):
                k, v = (t[0, head // 2, start : token + 1] for t in (key, value))
                weights = torch.softmax(SCALE * (k @ query[0, head, token]), 0)
                out[0, token, head] = weights @ v
        start += length
    return out


@pytest.mark.parametrize("packed", [True, False])
def test_each_token_sees_its_sample_up_to_itself(packed):
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, sum(LENGTHS), 8) for heads in (4, 2, 2))
    wanted = naive(query, key, value)
    layer = nn.Module()
    layer.num_key_value_groups, layer.is_causal = 2, True
    if packed:
        found, _ = packed_attention(layer, query, key, value, None, LENGTHS, SCALE)
    else:  # an ordinary batch of one sample
        first = (t[:, :, : LENGTHS[0]] for t in (query, key, value))
        found, _ = packed_attention(layer, *first, None, None, SCALE)
        wanted = wanted[:, : LENGTHS[0]]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
