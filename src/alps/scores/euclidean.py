"""Euclidean (Frobenius) distance between two head matrices (Table 2, Eu.)."""

from jaxtyping import Float
from torch import Tensor, linalg


def score(base: Float[Tensor, "d_model d_head"], task: Float[Tensor, "d_model d_head"]) -> float:
    """Norm of the difference, in float64."""
    return float(linalg.vector_norm(task.double() - base.double()))
