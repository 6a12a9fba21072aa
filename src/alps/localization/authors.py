"""`compat=authors`: the scores of the authors' localization script, its defects included.

github.com/VoiceBeer/ALPS, ALPS/alps.py at commit 70bce03. Both models are rounded to bfloat16. Rows
of k and v are sliced with the query head's index, so that with grouped queries a head gets the
wrong KV group, or none where the slice lies past the end. Softmax is float32 and not renormalized,
except inside scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from alps.models.qkv import QKVCheckpoint

EPSILON = 1e-8
Vector = np.ndarray


def authors_scores(
    base: QKVCheckpoint,
    task: QKVCheckpoint,
    metrics: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Scores of every head by metric, each float64 of shape (num_layers, num_heads).

    Args:
        base: The base model.
        task: The task model.
        metrics: Some of `AUTHORS_METRICS`.
        progress: Called with the numbers of KV groups done and in total.
    """
    g = base.geometry
    tables = {m: np.zeros((g.num_layers, g.num_heads)) for m in metrics}
    for layer in range(g.num_layers):
        pairs = zip(_distributions(base, layer), _distributions(task, layer), strict=True)
        for head, (before, after) in enumerate(pairs):
            for metric in metrics:
                tables[metric][layer, head] = _METRICS[metric](before, after)
        if progress:
            progress((layer + 1) * g.num_kv_heads, g.num_layers * g.num_kv_heads)
    return tables


def _distributions(checkpoint: QKVCheckpoint, layer: int):
    """float32 softmax of each head's q, k and v rows, flattened and concatenated."""
    g = checkpoint.geometry
    groups = [checkpoint.group(layer, i).weights for i in range(g.num_kv_heads)]
    projections: list[Tensor] = [torch.cat(ws).bfloat16() for ws in zip(*groups, strict=True)]
    for head in range(g.num_heads):
        rows = slice(head * g.head_dim, (head + 1) * g.head_dim)
        vector = torch.cat([w[rows].flatten() for w in projections])
        yield torch.softmax(vector.float(), dim=0).numpy()


def _pad(base: Vector, task: Vector) -> float:
    ground = np.linspace(0, 1, len(base))
    return float(wasserstein_distance(ground, ground, base, task))


def _kl(base: Vector, task: Vector) -> float:
    base, task = base + EPSILON, task + EPSILON
    base, task = base / base.sum(), task / task.sum()
    return float(np.sum(task * np.log(task / base)))


def _cosine(base: Vector, task: Vector) -> float:
    return float(1.0 - np.dot(base, task) / (np.linalg.norm(base) * np.linalg.norm(task)))


_METRICS = {"pad": _pad, "kl": _kl, "cosine": _cosine}
