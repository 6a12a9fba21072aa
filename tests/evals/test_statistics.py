import numpy as np
import pytest
from scipy import stats

from alps.evals import statistics
from alps.evals.statistics import Part, uncertainty, value

RANDOM = np.random.default_rng(3)
RIGHT = (RANDOM.random(200) < 0.7).astype(float)
BELOW = RANDOM.integers(1, 4, 200)
ABOVE = np.minimum(RANDOM.integers(0, 4, 200), BELOW)


def ratio(above, below, axis=-1):
    return above.sum(axis=axis) / below.sum(axis=axis)


def test_mean_is_the_textbooks():
    found = uncertainty(Part(RIGHT))
    assert value(Part(RIGHT)) == RIGHT.mean()
    assert found.stderr == pytest.approx(stats.sem(RIGHT), rel=1e-12)


@pytest.mark.parametrize("columns", [(RIGHT,), (ABOVE, BELOW)], ids=["mean", "ratio"])
def test_interval_agrees_with_scipy(columns):
    statistic = np.mean if len(columns) == 1 else ratio
    expected = stats.bootstrap(
        columns, statistic, paired=True, method="percentile", n_resamples=20_000, rng=1
    )
    found = uncertainty(Part(*columns), resamples=20_000)
    low, high = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)
    assert found.stderr == pytest.approx(expected.standard_error, rel=0.03)
    assert value(Part(*columns)) == pytest.approx(statistic(*columns))


def test_several_parts_are_resampled_together():
    """A part and its opposite cancel in every resample, which separate draws would not."""
    both = (Part(RIGHT), Part(1 - RIGHT))
    found = uncertainty(*both)
    assert value(*both) == 0.5
    assert (found.low, found.high, found.stderr) == pytest.approx((0.5, 0.5, 0.0))


def naive(parts, groups, resamples, seed):
    """One resample after another, one group after another, as the words say."""
    random = np.random.default_rng(seed)
    names = list(dict.fromkeys(groups))
    members = {n: [i for i, g in enumerate(groups) if g == n] for n in names}
    drawn = []
    for _ in range(resamples):
        picked = {n: [m[int(random.random() * len(m))] for _ in m] for n, m in members.items()}
        ratios = [
            ratio(np.take(part.above, picked[name]), np.take(part.below, picked[name]))
            for part in parts
            for name in names
        ]
        drawn.append(np.mean(ratios))
    return drawn


def test_groups_and_parts_equal_a_naive_loop(monkeypatch):
    groups = ["b", "a", "c", "b"] * 10
    parts = (Part(ABOVE[:40], BELOW[:40]), Part(RIGHT[:40], np.ones(40)))
    drawn = naive(parts, groups, resamples=50, seed=7)
    monkeypatch.setattr(statistics, "CELLS_AT_ONCE", 300)  # seven resamples at once
    found = uncertainty(*parts, groups=groups, resamples=50, seed=7)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_macro_average_counts_groups_not_documents():
    right, groups = [1, 1, 1, 0, 0, 0, 0, 0], ["big"] * 6 + ["small"] * 2
    assert value(Part(right), groups=groups) == 0.25 and value(Part(right)) == 0.375
    big, small = (stats.sem(right[:6]), stats.sem(right[6:]))
    found = uncertainty(Part(right), groups=groups)
    assert found.stderr == pytest.approx(np.hypot(big, small) / 2)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        found = uncertainty(Part(random.random(80) < 0.3), resamples=200)
        inside += found.low <= 0.3 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_one_document_says_nothing_about_spread():
    assert uncertainty(Part([1.0])) is None
    assert uncertainty(Part([1.0, 0.0, 1.0]), groups=["a", "a", "b"]) is None


def test_many_documents_are_drawn_in_little_memory():
    order, starts = statistics._grouped(None, 14_042)
    chunks = list(statistics._resampled(order, starts, np.array([14_042]), 200, 0))
    assert sum(len(chunk) for chunk in chunks) == 200
    assert max(chunk.size for chunk in chunks) <= statistics.CELLS_AT_ONCE


def test_same_seed_same_interval_and_no_state_is_touched():
    before = np.random.get_state()[1].copy()
    assert uncertainty(Part(RIGHT)) == uncertainty(Part(RIGHT)) != uncertainty(Part(RIGHT), seed=1)
    assert (np.random.get_state()[1] == before).all()
