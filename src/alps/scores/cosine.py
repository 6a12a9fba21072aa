"""Cosine distance between two head matrices (Table 2, C.S.), turned so that larger = changed."""

from jaxtyping import Float
from torch import Tensor, linalg


def score(base: Float[Tensor, "d_model d_head"], task: Float[Tensor, "d_model d_head"]) -> float:
    """1 - cos of the flattened matrices, in float64, in [0, 2].

    Computed as half the squared distance of the two unit vectors, which keeps its digits where
    `1 - dot` would cancel them. A zero matrix has no direction: the result is nan.
    """
    a, b = base.double().flatten(), task.double().flatten()
    unit_a, unit_b = a / linalg.vector_norm(a), b / linalg.vector_norm(b)
    return float((unit_a - unit_b).square().sum() / 2)
