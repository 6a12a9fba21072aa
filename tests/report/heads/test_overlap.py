import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from alps.heads.geometry import Geometry, Head
from alps.heads.head_set import HeadSet
from alps.report.heads.overlap import compare, labels, to_json

SMALL = Geometry(num_layers=2, num_heads=5, num_kv_heads=5, head_dim=2)


def chosen(*heads: Head, **changes) -> HeadSet:
    return HeadSet(heads=heads, geometry=SMALL, **changes)


def by_number(numbers, **changes) -> HeadSet:
    return chosen(*(divmod(int(n), 5) for n in numbers), **changes)


def random_scores(seed: int) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, 1e-20 * np.random.default_rng(seed).lognormal(0, 9, (2, 5)).round(3)))


def naive_p(total: int, first: int, second: int, shared: int) -> float:
    ways = sum(
        math.comb(first, i) * math.comb(total - first, second - i)
        for i in range(shared, min(first, second) + 1)
    )
    return ways / math.comb(total, second)


def test_a_pair_by_hand():
    c = compare([("a", by_number([0, 1, 2, 7])), ("b", by_number([1, 2, 3, 8, 9]))])
    (pair,) = c.pairs
    assert (pair.first, pair.second, pair.shared) == ("a", "b", 2)
    assert pair.jaccard == 2 / 7
    assert pair.expected == 4 * 5 / 10
    assert pair.p_value == pytest.approx(155 / 210)  # C(5,2)^2 + C(5,3)C(5,1) + C(5,4) of C(10,4)
    assert pair.spearman is None
    assert (c.counts, c.profiles) == ((4, 5), ((3, 1), (3, 2)))
    assert c.shared_by_all == ((0, 1), (0, 2))


@pytest.mark.parametrize("seed", range(5))
def test_numbers_equal_naive_ones(seed):
    rng = np.random.default_rng(seed)
    first, second = (rng.choice(10, rng.integers(1, 11), replace=False) for _ in range(2))
    (pair,) = compare([("a", by_number(first)), ("b", by_number(second))]).pairs
    shared = sum(n in second for n in first)
    assert pair.shared == shared
    assert pair.jaccard == shared / (len(first) + len(second) - shared)
    assert pair.p_value == pytest.approx(naive_p(10, len(first), len(second), shared))


def test_identical_sets_agree_wholly():
    same = by_number([0, 4, 6], scores=random_scores(0))
    (pair,) = compare([("a", same), ("b", same)]).pairs
    assert (pair.shared, pair.jaccard) == (3, 1.0)
    assert pair.p_value == pytest.approx(1 / math.comb(10, 3))
    assert pair.spearman == pytest.approx(1)


def test_disjoint_sets_share_nothing():
    (pair,) = compare([("a", by_number([0, 1])), ("b", by_number([2, 3]))]).pairs
    assert (pair.shared, pair.jaccard) == (0, 0.0)
    assert pair.p_value == pytest.approx(1)


def test_two_sets_of_all_heads_agree_by_necessity():
    (pair,) = compare([("a", by_number(range(10))), ("b", by_number(range(10)))]).pairs
    assert (pair.shared, pair.jaccard, pair.expected) == (10, 1.0, 10.0)
    assert pair.p_value == pytest.approx(1)


def test_spearman_is_scipys_on_all_heads_with_ties():
    a, b = random_scores(1), random_scores(2)
    a = ((0.0, 0.0, *a[0][2:]), a[1])
    sets = [("a", by_number([0], scores=a)), ("b", by_number([9], scores=b))]
    wanted = spearmanr(np.ravel(a), np.ravel(b)).statistic
    assert compare(sets).pairs[0].spearman == pytest.approx(wanted)


@pytest.mark.parametrize("constant", [None, ((0.0,) * 5,) * 2, ((0.1,) * 5,) * 2])
def test_no_rank_correlation_without_ranks(constant):
    known, blank = by_number([0], scores=random_scores(1)), by_number([0], scores=constant)
    for sets in ([("a", known), ("b", blank)], [("a", blank), ("b", known)]):
        assert compare(sets).pairs[0].spearman is None


def test_every_pair_stands_once_in_order():
    c = compare([(name, by_number([i, 9])) for i, name in enumerate("abcd")])
    pairs = [p.first + p.second for p in c.pairs]
    assert pairs == ["ab", "ac", "ad", "bc", "bd", "cd"]
    assert c.shared_by_all == ((1, 4),)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_sets_are_refused(count):
    wanted = f"^a comparison needs two head sets or more, not {count}$"
    with pytest.raises(ValueError, match=wanted):
        compare([("a", by_number([0]))] * count)


def test_two_sets_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"^two head sets are named a: give each"):
        compare([("a", by_number([0])), ("b", by_number([0])), ("a", by_number([1]))])


def test_sets_of_different_shapes_are_refused_with_both_shapes():
    other = HeadSet(heads=((0, 0),), geometry=replace(SMALL, num_layers=3, num_kv_heads=1))
    with pytest.raises(ValueError) as refusal:
        compare([("x", by_number([0])), ("y", by_number([1])), ("z", other)])
    assert str(refusal.value) == (
        "x has 2 layers x 5 heads (5 KV heads, head size 2) but z has 3 layers x 5 heads "
        "(1 KV heads, head size 2): only head sets of one model shape can be compared"
    )


def test_scores_that_are_no_numbers_are_refused_by_name():
    bad = by_number([0], scores=((float("inf"),) * 5,) * 2)
    with pytest.raises(ValueError, match=r"^the scores of b hold NaN or infinity"):
        compare([("a", by_number([0])), ("b", bad)])


def test_the_json_holds_sets_and_pairs():
    sets = [("a", by_number([0, 6], metric="pad")), ("b", by_number([0, 1]))]
    plain = json.loads(json.dumps(to_json(compare(sets)), allow_nan=False))
    assert plain["num_layers"] == 2
    assert plain["sets"] == [
        {"name": "a", "metric": "pad", "num_chosen": 2, "chosen_per_layer": [1, 1]},
        {"name": "b", "metric": None, "num_chosen": 2, "chosen_per_layer": [2, 0]},
    ]
    assert plain["shared_by_all"] == [[0, 0]]
    (pair,) = plain["pairs"]
    assert pair == {
        "first": "a",
        "second": "b",
        "shared": 1,
        "jaccard": 1 / 3,
        "expected": 0.4,
        "p_value": pytest.approx(1 - math.comb(8, 2) / math.comb(10, 2)),
        "spearman": None,
    }


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        (["pad.json", "kl.json"], ["pad", "kl"]),
        (["runs/alps-1/heads.json", "runs/kl-2/heads.json"], ["alps-1", "kl-2"]),
        (["runs/alps-1/heads.json", "pad.json"], ["alps-1", "pad"]),
        (["a/x/heads.json", "b/x/heads.json", "c.json"], ["a/x", "b/x", "c"]),
        (["a/pad.json", "b/pad.json"], ["a/pad", "b/pad"]),
        (["pad.json", "pad.json", "pad.json"], ["pad", "pad (2)", "pad (3)"]),
        (["llama-3.1-8b.json"], ["llama-3.1-8b"]),
    ],
)
def test_labels_are_as_short_as_they_can_be(paths, wanted, tmp_path):
    assert labels([tmp_path / p for p in paths]) == wanted


def test_labels_of_relative_paths_use_the_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert labels([Path("heads.json")]) == ["here"]


def test_long_labels_lose_their_middle_but_stay_distinct():
    long = [Path("a" * 40 + f"{i}" + "b" * 40 + ".json") for i in range(3)]
    found = labels([*long, Path("x" * 60 + "y.json")])
    assert len(set(found)) == 4
    assert max(map(len, found)) <= 32
    assert found[3].startswith("xxx") and found[3].endswith("xy") and "…" in found[3]
