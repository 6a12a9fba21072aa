"""The heads of one KV group as pairs of matrices: what is compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from alps.heads.geometry import Geometry
from alps.heads.head_pair import HeadPair, Part
from alps.models.qkv import Group

Matrix = Literal["product", "concat"]
Bias = Literal["ignore", "include"]


def head_pairs(
    base: Group, task: Group, geometry: Geometry, matrix: Matrix, bias: Bias
) -> Iterator[HeadPair]:
    """Each head of a KV group, in float64.

    Projections are stored transposed, (rows of heads, d_model). A product is therefore computed
    transposed, (d_head, d_model); read down its columns it is the paper's matrix row after row.

    Args:
        base: The group in the base model.
        task: The group in the task model.
        geometry: Shape of the model.
        matrix: `product`: W_q (W_k^T W_v), d_model x d_head (eq. 5), flattened row after row.
            `concat`: q, k and v of the head as they are stored, (d_head, d_model) each, flattened
            row after row and put one behind the other (the authors' code).
        bias: `include` treats a bias as one more input: a last column of its projection.
    """
    both = [_doubles(base, bias), _doubles(task, bias)]
    per_head = [q.reshape(geometry.group_size, geometry.head_dim, -1) for q, _, _ in both]
    if matrix == "concat":
        shared = geometry.group_size > 1
        (_, *base_kv), (_, *task_kv) = both
        pairs = zip(base_kv, task_kv, strict=True)
        kv = [Part(_in_line(b), _in_line(t), shared) for b, t in pairs]
        for base_q, task_q in zip(*per_head, strict=True):
            yield HeadPair(Part(_in_line(base_q), _in_line(task_q)), *kv)
        return
    inner = [v @ k.T for _, k, v in both]  # of the group, once for all its heads
    for base_q, task_q in zip(*per_head, strict=True):
        yield HeadPair(Part(inner[0] @ base_q, inner[1] @ task_q))


def _doubles(group: Group, bias: Bias) -> list[np.ndarray]:
    weights = group.weights
    if bias == "ignore" or group.biases is None:
        return [w.double().numpy() for w in weights]
    pairs = zip(weights, group.biases, strict=True)
    return [np.column_stack([w.double().numpy(), b.double().numpy()]) for w, b in pairs]


def _in_line(rows: np.ndarray) -> np.ndarray:
    """One column, in the order of storage."""
    return np.ascontiguousarray(rows).reshape(-1, 1)
