"""Cosine distance between a head in base and task model (Table 2, C.S.): larger = changed.

The paper gives no equation of it. `of` says what the cosine is taken of:

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
        of: What of it is compared. A zero matrix of weights has no direction: the result is nan.
    """
    if of == "weights":
        return _distance(*(sum(part.moments[i] for part in pair.parts) for i in range(3)))
    change = pair.softmax(tau=1.0)
    if change is None:
        base, task = (softmax(x, 1.0) for x in pair.flat())
        gained = task - base
        return _distance(float(base @ base), float(base @ gained), float(gained @ gained))
    parts = list(zip(change.weights, change.softs, strict=True))
    return _distance(*(sum(w * w * soft.moments[i] for w, soft in parts) for i in range(3)))


def _distance(base: float, mixed: float, change: float) -> float:
    """1 - cos of a vector and its sum with a change; the lengths of the two play no part.

    Computed from the part of the change that stands upright on the vector, which keeps the digits
    that `1 - dot` would cancel.

    Args:
        base: Sum of base x base.
        mixed: Sum of base x change.
        change: Sum of change x change.
    """
    if base == 0 or base + 2 * mixed + change <= 0:
        return math.nan
    upright = math.sqrt(max(change * base - mixed * mixed, 0.0))
    along = base + mixed
    length = math.hypot(upright, along)
    cosine = along / length
    return (upright / length) ** 2 / (1 + cosine) if cosine > 0 else 1 - cosine
