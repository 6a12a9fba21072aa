from collections import Counter
from random import Random

import numpy as np
import pytest

from alps.heads.geometry import Geometry
from alps.localization.scores import Scores

GEOMETRY = Geometry(num_layers=4, num_heads=6, num_kv_heads=2, head_dim=2)


def scores(seed: int = 0, **changes) -> Scores:
    values = np.random.default_rng(seed).permutation(24).reshape(4, 6) + 0.5
    about = {"base_hash": "b", "task_hash": "t", "provenance": {"matrix": "product"}}
    return Scores(**{"values": values, "metric": "pad", "geometry": GEOMETRY, **about, **changes})


def sorted_heads(found: Scores, reverse: bool) -> list[tuple[int, int]]:
    return sorted(GEOMETRY.heads(), key=lambda head: found.values[head], reverse=reverse)


@pytest.mark.parametrize(("ratio", "count"), [(0.01, 1), (0.1, 3), (0.25, 6), (0.3, 8), (1.0, 24)])
@pytest.mark.parametrize("seed", range(3))
def test_top_and_bottom_are_the_k_highest_and_lowest_of_all_layers(seed, ratio, count):
    found = scores(seed)
    assert found.top(ratio).heads == tuple(sorted(sorted_heads(found, True)[:count]))
    assert found.bottom(ratio).heads == tuple(sorted(sorted_heads(found, False)[:count]))


def test_top_and_bottom_share_no_head_below_a_half():
    assert not set(scores().top(0.5).heads) & set(scores().bottom(0.5).heads)


def test_a_set_remembers_why():
    drawn = scores().layer_matched(3, Random(0))
    for chosen in (scores().top(0.1), scores().bottom(0.1), scores().head_set(drawn, 0.1)):
        assert (chosen.metric, chosen.ratio, chosen.geometry) == ("pad", 0.1, GEOMETRY)
        assert (chosen.base_hash, chosen.task_hash) == ("b", "t")
        assert np.array_equal(chosen.scores, scores().values)
        assert chosen.provenance == {"matrix": "product"}


def test_ties_go_to_the_lower_layer_and_head_at_both_ends():
    values = np.zeros((4, 6))
    values[3, 5] = 1.0
    found = scores(values=values)
    assert found.top(0.1).heads == ((0, 0), (0, 1), (3, 5))
    assert found.bottom(0.1).heads == ((0, 0), (0, 1), (0, 2))


@pytest.mark.parametrize("seed", range(3))
def test_a_ranking_holds_every_head_once_in_order(seed):
    found = scores(seed)
    assert found.ranking() == sorted_heads(found, reverse=True)
    assert found.ranking(lowest_first=True) == sorted_heads(found, reverse=False)
    upper = [head for head in sorted_heads(found, reverse=True) if head[0] >= 2]
    assert found.ranking(range(2, 4)) == upper
    assert found.ranking(range(2, 4), lowest_first=True) == upper[::-1]


@pytest.mark.parametrize("layers", [None, range(2, 4)])
@pytest.mark.parametrize("seed", range(5))
def test_layer_matched_heads_are_as_many_in_each_layer(seed, layers):
    for count in (1, 3, 10, 12):
        drawn = scores(seed).layer_matched(count, Random(seed), layers)
        assert len(set(drawn)) == count
        top = scores(seed).ranking(layers)[:count]
        assert Counter(layer for layer, _ in drawn) == Counter(layer for layer, _ in top)


def test_layer_matched_heads_are_drawn_from_the_whole_layer_and_follow_the_seed():
    sets = [tuple(scores().layer_matched(8, Random(seed))) for seed in range(60)]
    assert sets[0] == tuple(scores().layer_matched(8, Random(0)))
    assert len(set(sets)) > 10
    layers = {layer for layer, _ in scores().ranking()[:8]}
    assert {head for heads in sets for head in heads} == {
        (layer, head) for layer in layers for head in range(6)
    }


@pytest.mark.parametrize(
    "choose",
    [
        lambda found: found.top(0.1),
        lambda found: found.bottom(0.1),
        lambda found: found.ranking(),
        lambda found: found.layer_matched(3, Random(0)),
        lambda found: found.check_nonzero(),
    ],
)
def test_scores_of_identical_checkpoints_choose_nothing(choose):
    with pytest.raises(ValueError, match=r"identical attention weights: .* no head can be chosen$"):
        choose(scores(values=np.zeros((4, 6))))


def test_one_moved_head_is_enough():
    values = np.zeros((4, 6))
    values[2, 1] = 1e-300
    scores(values=values).check_nonzero()
    assert (2, 1) in scores(values=values).top(0.1).heads


def test_the_shape_of_the_table_is_checked():
    with pytest.raises(ValueError, match="not 4 rows of 6 numbers"):
        scores(values=np.ones((6, 4))).top(0.1)
