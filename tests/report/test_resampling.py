import numpy as np
import pytest

from alps.evals.statistics import RESAMPLES, Part, uncertainty
from alps.report.documents import Documents
from alps.report.resampling import Interval, drawn, interval


def documents(*parts: Part, pool: str = "pool", groups=None) -> Documents:
    return Documents(pool=pool, parts=parts, groups=groups)


@pytest.mark.parametrize("groups", [None, ["a"] * 120 + ["b"] * 60])
def test_intervals_are_those_of_the_evaluation(groups):
    """Another draw of the same kind: equal but for the error of a thousand draws."""
    rng = np.random.default_rng(0)
    below = rng.integers(1, 4, 180)
    parts = (Part(rng.integers(0, 2, 180)), Part(rng.binomial(below, 0.4), below))
    ours = interval(drawn(documents(*parts, groups=groups)))
    other = uncertainty(*parts, groups=groups)
    assert other is not None
    assert ours.low == pytest.approx(other.low, abs=0.01)
    assert ours.high == pytest.approx(other.high, abs=0.01)


def test_the_same_documents_are_drawn_together_and_others_apart():
    right = Part(np.random.default_rng(1).integers(0, 2, 200))
    first, again = drawn(documents(right)), drawn(documents(right))
    assert np.array_equal(first, again) and len(first) == RESAMPLES
    other = drawn(documents(right, pool="another"))
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.15


def test_groups_are_drawn_each_from_itself_and_count_alike():
    groups = ["small"] * 2 + ["large"] * 98
    all_right_in_small = Part([1.0] * 2 + [0.0] * 98)
    assert set(drawn(documents(all_right_in_small, groups=groups))) == {0.5}


@pytest.mark.parametrize(
    ("ends", "excludes"), [((1, 2), True), ((-2, -1), True), ((-1, 2), False), ((0, 2), False)]
)
def test_an_interval_excludes_zero(ends, excludes):
    assert Interval(*ends).excludes_zero is excludes
