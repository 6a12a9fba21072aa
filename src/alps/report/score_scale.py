"""How scores become shades, the same in pictures and on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alps.heads.head_set import HeadSet

if TYPE_CHECKING:
    import numpy as np

PERCENTILE = 99
WORTH_CAPPING = 1.5


@dataclass(frozen=True)
class ColorScale:
    """A linear scale from `low` to `high`.

    Linear, because real PAD scores span over fifteen decades: on a log scale the differences
    between heads that hardly moved would take most of the colours.

    Attributes:
        low: Score of the darkest shade: zero, or the lowest score if that is negative.
        high: Score of the brightest shade, and of all above it.
        largest: The largest score.
    """

    low: float
    high: float
    largest: float

    @property
    def capped(self) -> bool:
        """Whether scores above `high` exist."""
        return self.largest > self.high

    def fraction(self, score: float) -> float:
        """Place of a score on the scale, in [0, 1]."""
        return min(max((score - self.low) / (self.high - self.low), 0.0), 1.0)


def color_scale(scores: np.ndarray) -> ColorScale:
    """The scale of these scores, capped at their 99th percentile where a few stand far above it."""
    import numpy as np

    low, largest = min(0.0, float(scores.min())), float(scores.max())
    high = float(np.percentile(scores, PERCENTILE))
    if high <= low or largest - low < WORTH_CAPPING * (high - low):
        high = largest
    if high <= low:
        high = low + 1.0  # all scores are equal: any scale shows them in one shade
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
    """How many heads are chosen, and the share of weights that train with them."""
    count, total = len(head_set.heads), head_set.geometry.total_heads
    return (
        f"{count} of {total} heads chosen ({100 * count / total:.1f} %), "
        f"{100 * head_set.qkv_share():.1f} % of Q/K/V weights"
    )


def checkpoint_names(head_set: HeadSet) -> str:
    """`base -> task` as far as the provenance names them, or nothing."""
    names = [str(head_set.provenance[n]) for n in ("base", "task") if head_set.provenance.get(n)]
    return " → ".join(names)
