"""Cosine distance between a head in base and task model (Table 2, C.S.): larger = changed.

The paper gives no equation for it. `of` selects the vectors:

- `weights`: the flattened matrices.
- `distribution`: their softmaxes (eq. 6 at tau 1), as in the authors' script.
"""

import math
from typing import Literal

from alps.heads.head_pair import HeadPair
from alps.scores.pad import softmax


def score(pair: HeadPair, of: Literal["weights", "distribution"] = "distribution") -> float:
    """1 - cos, in [0, 2], and in [0, 1] of distributions.

    Args:
        pair: The head.
        of: The vectors compared. A zero matrix of weights has no direction: the result is nan.
    """
    if of == "weights":
        return _distance(
            *(sum(segment.inner_products[i] for segment in pair.segments) for i in range(3))
        )
    change = pair.softmax(tau=1.0)
    if change is None:
        base, task = (softmax(x, 1.0) for x in pair.flat())
        increase = task - base
        return _distance(float(base @ base), float(base @ increase), float(increase @ increase))
    pairs = list(zip(change.weights, change.exponentials, strict=True))
    return _distance(*(sum(w * w * e.inner_products[i] for w, e in pairs) for i in range(3)))


def _distance(base: float, mixed: float, change: float) -> float:
    """1 - cos of the angle between a vector and its sum with a change.

    Computed from the component of the change orthogonal to the vector, which keeps the digits that
    `1 - dot` would cancel.

    Args:
        base: Sum of base x base.
        mixed: Sum of base x change.
        change: Sum of change x change.
    """
    if base == 0 or base + 2 * mixed + change <= 0:
        return math.nan
    orthogonal = math.sqrt(max(change * base - mixed * mixed, 0.0))
    along = base + mixed
    length = math.hypot(orthogonal, along)
    cosine = along / length
    return (orthogonal / length) ** 2 / (1 + cosine) if cosine > 0 else 1 - cosine
