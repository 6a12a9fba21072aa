"""Which training rows a run uses: all, a fraction, or a number of them."""

import hashlib
import math
from fractions import Fraction

from alps.data.example import Example
from alps.families import Source


def training_examples(source: Source) -> list[Example]:
    """The rows a run trains on, in the source's order.

    The subset is nested: rows are ranked by a hash of their position, and the first K of that
    ranking are kept, so 10 % of the rows lie inside 30 % of them.

    Raises:
        ValueError: If there is no row.
    """
    rows = list(source.examples("train"))
    if not rows:
        raise ValueError(f"data={source.name} has no training rows")
    usable = min(len(rows), source.max_examples or len(rows))
    keep = math.ceil(Fraction(str(source.fraction)) * usable)
    if keep == len(rows):
        return rows
    ranked = sorted(range(len(rows)), key=lambda i: _rank(source.subset_seed, i))
    return [rows[i] for i in sorted(ranked[:keep])]


def _rank(seed: int, position: int) -> bytes:
    return hashlib.sha256(f"{seed}/{position}".encode()).digest()
