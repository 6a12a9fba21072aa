"""Cosine distance between two head matrices (Table 2, C.S.), turned so that larger = changed."""

import math

from alps.head_pair import HeadPair


def score(pair: HeadPair) -> float:
    """1 - cos of the flattened matrices, in [0, 2].

    Computed from the part of the change that stands upright on the base, which keeps the digits
    that `1 - dot` would cancel. A zero matrix has no direction: the result is nan.
    """
    base, mixed, change = (sum(part.moments[i] for part in pair.parts) for i in range(3))
    if base == 0 or base + 2 * mixed + change <= 0:
        return math.nan
    upright = math.sqrt(max(change * base - mixed * mixed, 0.0))
    along = base + mixed
    length = math.hypot(upright, along)
    cosine = along / length
    return (upright / length) ** 2 / (1 + cosine) if cosine > 0 else 1 - cosine
