"""The color scale of scores, the same in figures and on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alps.heads.head_set import HeadSet

if TYPE_CHECKING:
    import numpy as np

PERCENTILE = 99
"""Of the scores, above which the scale is capped."""

WORTH_CAPPING = 1.5
"""Smallest ratio of the whole range to the capped one at which the scale is capped."""


@dataclass(frozen=True)
class ColorScale:
    """A linear scale from `low` to `high`.

    Linear, because PAD scores span more than fifteen decades: on a log scale, differences between
    heads that hardly moved would use most of the colors.

    Attributes:
        low: Score of the darkest color: zero, or the lowest score if that is negative.
        high: Score of the brightest color, also used for higher scores.
        largest: The largest score.
    """

    low: float
    high: float
    largest: float

    @property
    def capped(self) -> bool:
        """Whether scores above `high` exist."""
        return self.largest > self.high

    @property
    def remark(self) -> str:
        """Remark on a capped scale for its label, or empty."""
        if not self.capped:
            return ""
        return (
            f"(brightest from {self.high:.1e}, the {PERCENTILE}th percentile; "
            f"largest {self.largest:.1e})"
        )

    def fraction(self, score: float) -> float:
        """Position of a score on the scale, in [0, 1]."""
        return min(max((score - self.low) / (self.high - self.low), 0.0), 1.0)


def color_scale(scores: np.ndarray) -> ColorScale:
    """A scale for these scores, capped at the 99th percentile if some are far above it."""
    import numpy as np

    low, largest = min(0.0, float(scores.min())), float(scores.max())
    high = float(np.percentile(scores, PERCENTILE))
    if high <= low or largest - low < WORTH_CAPPING * (high - low):
        high = largest
    if high <= low:
        high = low + 1.0  # all scores are equal: any scale shows one color
    return ColorScale(low, high, largest)


def score_array(head_set: HeadSet, name: str = "this head set") -> np.ndarray | None:
    """The scores as float64 of shape (num_layers, num_heads), or None if the set has none.

    Raises:
        ValueError: If one is NaN or infinite.
    """
    import numpy as np

    if head_set.scores is None:
        return None
    scores = np.asarray(head_set.scores, dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError(
            f"the scores of {name} hold NaN or infinity: localize its two checkpoints again"
        )
    return scores


def selection_summary(head_set: HeadSet) -> str:
    """Number of chosen heads and the share of Q/K/V weights that train with them."""
    count, total = len(head_set.heads), head_set.geometry.total_heads
    return (
        f"{count} of {total} heads chosen ({100 * count / total:.1f} %), "
        f"{100 * head_set.qkv_share():.1f} % of Q/K/V weights"
    )


def checkpoint_names(head_set: HeadSet) -> str:
    """`base -> task`, as far as the provenance names them, or empty."""
    names = [str(head_set.provenance[n]) for n in ("base", "task") if head_set.provenance.get(n)]
    return " → ".join(names)
