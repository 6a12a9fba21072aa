"""Euclidean (Frobenius) distance between two head matrices (Table 2, Eu.)."""

import math

from alps.heads.head_pair import HeadPair


def score(pair: HeadPair) -> float:
    """Norm of the change."""
    return math.sqrt(sum(segment.inner_products[2] for segment in pair.segments))
