import runpy
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from alps.evals.statistics import (
    DocumentScores,
    Interval,
    Ratio,
    VarianceComponents,
    deviations,
    holm,
    mcnemar,
    point_estimate,
    uncertainty,
    variance_components,
)

RANDOM = np.random.default_rng(3)
RIGHT = (RANDOM.random(200) < 0.7).astype(float)
BELOW = RANDOM.integers(1, 4, 200)
ABOVE = np.minimum(RANDOM.integers(0, 4, 200), BELOW)
LOSSES = RANDOM.gamma(2.0, 3.0, 200)


def ratio(above, below, axis=-1):
    return above.sum(axis=axis) / below.sum(axis=axis)


def test_the_standard_error_of_a_mean_is_the_textbooks():
    found = uncertainty(Ratio(RIGHT))
    assert found is not None and point_estimate(Ratio(RIGHT)) == RIGHT.mean()
    assert found.stderr == pytest.approx(stats.sem(RIGHT), rel=1e-12)


def test_a_ratio_of_sums_agrees_with_scipys_bootstrap():
    part = Ratio(LOSSES, BELOW, proportion=False)
    expected = stats.bootstrap(
        (LOSSES, BELOW), ratio, paired=True, method="percentile", n_resamples=20_000, rng=1
    )
    found = uncertainty(part)
    assert found is not None and point_estimate(part) == pytest.approx(ratio(LOSSES, BELOW))
    assert found.stderr == pytest.approx(expected.standard_error, rel=0.03)
    low, high = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05)
    half = stats.norm.isf(0.025) * found.stderr
    assert found.low == pytest.approx(point_estimate(part) - half, rel=1e-12)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(7, 10, 0.3967781, 0.8922087), (0, 24, 0.0, 0.1379762), (24, 24, 0.8620238, 1.0)],
)
def test_a_share_of_right_answers_has_wilsons_interval(right, count, low, high):
    """(p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), by hand."""
    found = uncertainty(Ratio([1.0] * right + [0.0] * (count - right)))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_shares_end_at_one_and_losses_do_not():
    nearly = [1, 1, 1, 1, 1, 1, 1, 0]
    share, loss = Ratio(nearly, [2] * 8), Ratio([2.0 * n for n in nearly], proportion=False)
    assert uncertainty(share).high < 1 and uncertainty(share).low > 0
    assert uncertainty(Ratio([2, 2, 2, 1], [2] * 4)).high == 1.0
    assert uncertainty(loss).high > 2.0
    assert uncertainty(Ratio([0.0, 0.0, 0.0, 5.0], proportion=False)).low == 0.0


def test_several_parts_are_of_the_same_documents():
    """A part and its opposite cancel in every document."""
    both = (Ratio(RIGHT), Ratio(1 - RIGHT))
    found = uncertainty(*both)
    assert found is not None and point_estimate(*both) == 0.5
    assert (found.low, found.high, found.stderr) == pytest.approx((0.5, 0.5, 0.0))


def test_a_macro_average_counts_groups_not_documents():
    right, groups = [1, 1, 1, 0, 0, 0, 0, 0], ["big"] * 6 + ["small"] * 2
    assert (
        point_estimate(Ratio(right), groups=groups) == 0.25
        and point_estimate(Ratio(right)) == 0.375
    )
    big, small = stats.sem(right[:6]), stats.sem(right[6:])
    found = uncertainty(Ratio(right), groups=groups)
    assert found is not None and found.stderr == pytest.approx(np.hypot(big, small) / 2)


def test_groups_need_not_be_in_order():
    order = RANDOM.permutation(200)
    groups = np.array(["a"] * 50 + ["b"] * 150)
    parts, mixed = Ratio(ABOVE, BELOW), Ratio(ABOVE[order], BELOW[order])
    assert point_estimate(parts, groups=groups) == pytest.approx(
        point_estimate(mixed, groups=groups[order])
    )
    found, other = deviations(parts, groups=groups), deviations(mixed, groups=groups[order])
    assert found is not None and other is not None and other == pytest.approx(found[order])


@pytest.mark.parametrize("truth", [0.05, 0.3])
def test_intervals_cover_the_truth_about_as_often_as_they_say(truth):
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        found = uncertainty(Ratio(random.random(80) < truth))
        inside += found is not None and found.low <= truth <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def test_one_document_says_nothing_about_spread():
    assert uncertainty(Ratio([1.0])) is None
    assert uncertainty(Ratio([1.0, 0.0, 1.0]), groups=["a", "a", "b"]) is None


def test_one_seed_has_the_variance_of_its_documents_over_all_pools():
    first, second = np.array([0.1, -0.2, 0.1]), np.array([0.3, -0.3])
    found = variance_components([5.0], [{"a": first, "b": second}])
    assert found.between_seeds == 0 and found.num_seeds == 1
    assert found.documents == pytest.approx(0.01 + 0.04 + 0.01 + 0.09 + 0.09)
    assert found.half_width() == pytest.approx(1.959964 * np.sqrt(0.24), rel=1e-6)


def test_several_seeds_add_their_variance_with_students_quantile():
    """Documents that came out alike for all seeds: their variance adds up with that of seeds."""
    same = {"a": np.array([0.3, -0.3])}
    found = variance_components([1.0, 2.0, 6.0], [same] * 3)
    assert found.between_seeds == pytest.approx(7.0 / 3) and found.documents == pytest.approx(0.18)
    half = np.sqrt(4.302653**2 * 7 / 3 + 1.959964**2 * 0.18)
    assert found.half_width() == pytest.approx(half, rel=1e-6)
    assert found.interval(3.0) == pytest.approx((3 - half, 3 + half), rel=1e-6)


def test_the_noise_of_each_seeds_answers_is_counted_once():
    """Documents that came out at random for each seed vary between the seeds, not beside them."""
    random = np.random.default_rng(5)
    answers = (random.random((4, 2000)) < 0.5).astype(float)
    each = [{"a": deviations(Ratio(one))} for one in answers]
    found = variance_components(answers.mean(axis=1).tolist(), each)
    alone = np.mean([(d["a"] ** 2).sum() for d in each]) / 4
    assert found.documents < 0.2 * alone
    assert variance_components([0.5] * 4, [each[0]] * 4).documents == pytest.approx(
        4 * alone, rel=0.02
    )


@pytest.mark.parametrize(("between", "documents", "seeds"), [(0, 2.0, 1), (1.5, 0, 3), (1, 3, 2)])
def test_a_p_value_is_where_the_interval_touches_zero(between, documents, seeds):
    found = VarianceComponents(between_seeds=between, documents=documents, num_seeds=seeds)
    edge = found.half_width()
    assert found.p_value(edge) == pytest.approx(0.05) == found.p_value(-edge)
    assert found.p_value(edge * 1.01) < 0.05 < found.p_value(edge * 0.99)
    assert found.p_value(0.0) == 1.0


def test_p_values_are_scipys_where_one_distribution_is_enough():
    sample = [1.0, 2.0, 4.5, 0.5]
    spread = variance_components(sample, [{"a": np.zeros(3)}] * 4)
    expected = stats.ttest_1samp(sample, 0).pvalue
    assert spread.p_value(float(np.mean(sample))) == pytest.approx(expected)
    alone = VarianceComponents(between_seeds=0, documents=1.0, num_seeds=1)
    assert alone.p_value(2.5) == pytest.approx(2 * stats.norm.sf(2.5))


def test_where_nothing_varies_nothing_is_found():
    assert VarianceComponents(between_seeds=0, documents=0, num_seeds=1).p_value(3.0) == 1.0


def of(right, pool="p", **more) -> DocumentScores:
    return DocumentScores(pool=pool, ratios=(Ratio(right, **more),))


def test_mcnemar_counts_only_documents_that_differ():
    ours, theirs = [1] * 8 + [0] + [1] * 20, [0] * 8 + [1] + [1] * 20
    assert mcnemar(of(ours), of(theirs)) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(of(ours), of(ours)) == 1.0


def test_mcnemar_needs_the_same_yes_or_no_documents():
    right = [1.0, 0.0, 1.0]
    assert mcnemar(of(right), of(right, pool="others")) is None
    assert mcnemar(of([0.5, 1, 0]), of([0.5, 1, 0])) is None
    assert mcnemar(of(right, denominators=[2, 1, 1]), of(right, denominators=[2, 1, 1])) is None
    assert mcnemar(of(right, proportion=False), of(right, proportion=False)) is None


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(
    ("ends", "excludes"), [((1, 2), True), ((-2, -1), True), ((-1, 2), False), ((0, 2), False)]
)
def test_an_interval_excludes_zero(ends, excludes):
    assert Interval(*ends).excludes_zero is excludes


@pytest.mark.parametrize("seeds", [2, 3])
def test_methods_that_do_not_differ_are_seldom_told_apart(seeds):
    """600 of the benchmark's draws: documents alone find a difference in a fifth of them."""
    path = Path(__file__).parents[2] / "benchmarks/false_stars.py"
    simulate = runpy.run_path(str(path))["false_stars"]
    asked = Namespace(draws=600, spread=0.01, differing=0.2, interaction=0.0, seed=7)
    before, _, now = simulate(seeds, 1319, asked)
    assert before > 0.12 and now < 0.075
