"""The matrices of the heads of one KV group, in base and task model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from alps.heads.geometry import Geometry
from alps.heads.head_pair import HeadPair, Segment
from alps.models.qkv import KVGroup

Matrix = Literal["product", "concat"]
Bias = Literal["ignore", "include"]


def head_pairs(
    base: KVGroup, task: KVGroup, geometry: Geometry, matrix: Matrix, bias: Bias
) -> Iterator[HeadPair]:
    """Each head of a KV group, in float64.

    Projections are stored transposed, (rows of heads, d_model). A product is therefore computed
    transposed, (d_head, d_model); read in column-major order it is the paper's matrix in row-major.

    Args:
        base: The group in the base model.
        task: The group in the task model.
        geometry: Geometry of the model.
        matrix: `product`: W_q (W_k^T W_v), d_model x d_head (eq. 5), row-major. `concat`: q, k and
            v of the head as stored, (d_head, d_model) each, row-major and concatenated (the
            authors' code).
        bias: `include` appends each bias to its projection as a last column.
    """
    groups = [_float64(base, bias), _float64(task, bias)]
    per_head = [q.reshape(geometry.group_size, geometry.head_dim, -1) for q, _, _ in groups]
    if matrix == "concat":
        shared = geometry.group_size > 1
        (_, *base_kv), (_, *task_kv) = groups
        pairs = zip(base_kv, task_kv, strict=True)
        kv = [Segment(_as_column(b), _as_column(t), shared) for b, t in pairs]
        for base_q, task_q in zip(*per_head, strict=True):
            yield HeadPair(Segment(_as_column(base_q), _as_column(task_q)), *kv)
        return
    inner = [v @ k.T for _, k, v in groups]  # shared by the heads of the group
    for base_q, task_q in zip(*per_head, strict=True):
        yield HeadPair(Segment(inner[0] @ base_q, inner[1] @ task_q))


def _float64(group: KVGroup, bias: Bias) -> list[np.ndarray]:
    weights = group.weights
    if bias == "ignore" or group.biases is None:
        return [w.double().numpy() for w in weights]
    pairs = zip(weights, group.biases, strict=True)
    return [np.column_stack([w.double().numpy(), b.double().numpy()]) for w, b in pairs]


def _as_column(rows: np.ndarray) -> np.ndarray:
    """One column, in row-major order."""
    return np.ascontiguousarray(rows).reshape(-1, 1)
