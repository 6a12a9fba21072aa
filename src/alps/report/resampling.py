"""Bootstrap over documents with common draws, so that differences between models are paired.

Whoever answered the same documents is counted on the same draws of them: the spread of a difference
is then that of the documents' differences. Benchmarks with other documents are drawn independently,
so that averages over benchmarks have their spread, too; HumanEval and HumanEval+ are the same
documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alps.evals.statistics import LEVEL, RESAMPLES
from alps.report.documents import Documents

POOLS_IN_MEMORY = 12
ROUNDING = 1e-9


class Interval(NamedTuple):
    """A 95 % percentile interval."""

    low: float
    high: float

    @property
    def has_width(self) -> bool:
        """Whether some draws differ; where none do, nothing is known of other documents."""
        return self.high - self.low > ROUNDING

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


def drawn(documents: Documents) -> NDArray[np.float64]:
    """The headline on `RESAMPLES` draws of its documents, each group drawn from itself."""
    numbers: Mapping = {g: i for i, g in enumerate(dict.fromkeys(documents.groups or [None]))}
    count = len(documents.parts[0].arrays()[0])
    codes = np.array([numbers[g] for g in documents.groups or [None] * count])
    total = np.zeros(RESAMPLES)
    for code in numbers.values():
        members = np.flatnonzero(codes == code)
        times = _times(f"{documents.pool} {code}", len(members))
        for part in documents.parts:
            above, below = (array[members] for array in part.arrays())
            total += (times @ above) / (times @ below)
    return total / len(documents.parts) / len(numbers)


def interval(values: NDArray[np.float64]) -> Interval:
    """What 95 % of the draws lie in."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))


@lru_cache(maxsize=64 * POOLS_IN_MEMORY)  # MMLU alone has 57 groups
def _times(pool: str, count: int) -> NDArray[np.float32]:
    """How often each document is in each draw; the same for everyone who asks for this pool."""
    random = np.random.default_rng(list(pool.encode()))
    return random.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float32)
