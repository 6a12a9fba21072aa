import numpy as np
import pytest

from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.report.score_scale import checkpoint_names, color_scale, score_array, selection_summary

SMALL = Geometry(num_layers=2, num_heads=4, num_kv_heads=2, head_dim=3)


def test_scores_of_like_size_span_the_scale_from_zero():
    shades = color_scale(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert (shades.low, shades.high, shades.capped) == (0.0, 4.0, False)
    assert [shades.fraction(s) for s in (0.0, 1.0, 4.0)] == [0.0, 0.25, 1.0]


def test_one_score_far_above_the_others_does_not_darken_them():
    scores = np.linspace(0, 1e-9, 400).reshape(20, 20)
    scores[3, 4] = 1e-6
    shades = color_scale(scores)
    assert shades.high == np.percentile(scores, 99)
    assert (shades.capped, shades.largest) == (True, 1e-6)
    assert shades.fraction(1e-6) == 1.0
    assert shades.fraction(5e-10) == pytest.approx(0.5, rel=0.02)


def test_the_only_score_that_is_not_zero_is_bright():
    scores = np.zeros((32, 32))
    scores[1, 1] = 3e-12
    shades = color_scale(scores)
    assert (shades.fraction(0.0), shades.fraction(3e-12), shades.capped) == (0.0, 1.0, False)


def test_a_negative_score_is_the_dark_end():
    shades = color_scale(np.array([[-1.0, 0.0, 1.0]]))
    assert [shades.fraction(s) for s in (-1.0, 0.0)] == [0.0, pytest.approx(0.5, abs=0.01)]


@pytest.mark.parametrize("value", [0.0, -2.0, 1e-22])
def test_equal_scores_have_one_shade(value):
    assert 0 <= color_scale(np.full((2, 3), value)).fraction(value) <= 1


def test_scores_are_layers_by_heads_or_nothing():
    rows = ((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0))
    found = score_array(HeadSet(heads=((0, 0),), geometry=SMALL, scores=rows))
    assert found is not None
    assert found.tolist() == [list(row) for row in rows]
    assert score_array(HeadSet(heads=((0, 0),), geometry=SMALL)) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused_by_name(value):
    head_set = HeadSet(heads=((0, 0),), geometry=SMALL, scores=((value, 0, 0, 0), (0, 0, 0, 0)))
    with pytest.raises(ValueError, match=r"^the scores of a/heads hold NaN or infinity: localize"):
        score_array(head_set, "a/heads")


def test_facts_count_heads_and_the_weights_they_share():
    # One head of 8; its 3 query rows and the 3 + 3 rows of its KV group, of 48 rows.
    assert selection_summary(HeadSet(heads=((0, 1),), geometry=SMALL)) == (
        "1 of 8 heads chosen (12.5 %), 18.8 % of Q/K/V weights"
    )


@pytest.mark.parametrize(
    ("provenance", "name"),
    [({}, ""), ({"task": "t"}, "t"), ({"task": "t", "base": "b", "other": 1}, "b → t")],
)
def test_the_pair_is_named_as_far_as_known(provenance, name):
    assert checkpoint_names(HeadSet(heads=((0, 0),), geometry=SMALL, provenance=provenance)) == name
