import json
import math

import pytest

from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet, top_heads

SMALL = Geometry(num_layers=2, num_heads=8, num_kv_heads=2, head_dim=3)


def geometry(num_layers: int, num_heads: int, num_kv_heads: int = 1) -> Geometry:
    return Geometry(
        num_layers=num_layers, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=4
    )


@pytest.mark.parametrize(
    ("ratio", "layers", "heads", "expected"),
    [
        (0.07, 10, 10, 7),  # ceil(0.07 * 100) is 8 in binary floats
        (0.1, 16, 32, 52),  # Llama-3.2-1B
        (0.1, 28, 24, 68),  # Llama-3.2-3B
        (0.1, 32, 32, 103),  # Llama-3.1-8B
        (0.1, 30, 9, 27),  # SmolLM2-135M
        (1e-05, 10, 10, 1),
        (1, 10, 10, 100),
        (0, 10, 10, 0),
    ],
)
def test_count_is_the_exact_ceiling(ratio, layers, heads, expected):
    assert geometry(layers, heads).count(ratio) == expected


@pytest.mark.parametrize(("heads", "groups"), [(32, 8), (24, 8), (9, 3), (14, 2), (8, 8), (6, 1)])
def test_kv_group_is_the_papers_ceiling_counted_from_one(heads, groups):
    g = geometry(1, heads, groups)
    paper = [math.ceil(h * groups / heads) for h in range(1, heads + 1)]
    assert [g.kv_group(h) + 1 for h in range(heads)] == paper
    assert g.group_size * groups == heads


def test_heads_of_all_layers_are_listed_layer_by_layer():
    g = geometry(2, 2)
    assert g.heads() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert g.total_heads == 4


def test_uneven_kv_groups_are_refused():
    with pytest.raises(ValueError, match="9 query heads cannot share 2 KV heads evenly"):
        geometry(1, 9, 2)


def test_query_rows_are_ascending_blocks_of_head_dim():
    assert SMALL.query_rows([2, 0]) == [0, 1, 2, 6, 7, 8]


@pytest.mark.parametrize(
    ("policy", "groups"),
    [("any", [0, 1, 2, 3]), ("majority", [0, 1]), ("all", [0]), ("none", [])],
)
def test_kv_rows_follow_the_policy_in_groups_of_four(policy, groups):
    g = Geometry(num_layers=1, num_heads=20, num_kv_heads=5, head_dim=2)
    chosen = [0, 1, 2, 3, 4, 5, 6, 8, 9, 12]  # 4, 3, 2 and 1 of the four heads, last group none
    assert g.kv_rows(chosen, policy) == [2 * i + row for i in groups for row in range(2)]


@pytest.mark.parametrize(
    ("policy", "groups"), [("any", [0, 1, 2]), ("majority", [0, 1]), ("all", [0]), ("none", [])]
)
def test_kv_rows_follow_the_policy_in_groups_of_three(policy, groups):
    g = Geometry(num_layers=1, num_heads=12, num_kv_heads=4, head_dim=1)
    assert g.kv_rows([0, 1, 2, 3, 4, 6], policy) == groups  # 3, 2 and 1 of three, last group none


def test_without_sharing_any_majority_and_all_agree():
    g = geometry(1, 6, 6)
    rows = {policy: g.kv_rows([4, 1], policy) for policy in ("any", "majority", "all")}
    assert all(found == g.query_rows([1, 4]) for found in rows.values())


def test_a_head_named_twice_counts_once():
    assert SMALL.kv_rows([0, 0, 0, 0], "all") == []
    assert SMALL.query_rows([1, 1]) == [3, 4, 5]


def test_top_prefers_the_highest_scores_over_all_layers():
    assert top_heads([[0.1, 0.4], [0.3, 0.2]], 3) == [(0, 1), (1, 0), (1, 1)]


def test_top_gives_ties_to_the_lower_layer_then_the_lower_head():
    assert top_heads([[1.0, 2.0, 2.0], [2.0, 2.0, 1.0]], 3) == [(0, 1), (0, 2), (1, 0)]


def test_a_head_set_is_sorted_and_grouped_by_layer():
    chosen = HeadSet(heads=((1, 7), (0, 3), (1, 2)), geometry=SMALL)
    assert chosen.heads == ((0, 3), (1, 2), (1, 7))
    assert chosen.by_layer() == {0: [3], 1: [2, 7]}


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ((), "at least one head"),
        (((0, 1), (0, 1)), "twice"),
        (((2, 0),), r"head \(2, 0\) lies outside a model of 2 layers with 8 heads"),
        (((0, 8),), r"head \(0, 8\) lies outside"),
        (((-1, 0),), r"head \(-1, 0\) lies outside"),
    ],
)
def test_impossible_head_sets_are_refused(heads, message):
    with pytest.raises(ValueError, match=message):
        HeadSet(heads=heads, geometry=SMALL)


def test_a_head_set_survives_its_json_file(tmp_path):
    chosen = HeadSet(
        heads=((0, 3), (1, 2)),
        geometry=SMALL,
        metric="pad",
        ratio=0.1,
        base_hash="base",
        task_hash="task",
    )
    path = tmp_path / "heads.json"
    path.write_text(json.dumps(chosen.to_json()))
    assert HeadSet.read(path) == chosen
    plain = json.loads(path.read_text())
    assert plain["heads"] == [[0, 3], [1, 2]]
    assert plain["num_kv_heads"] == 2


def test_a_head_set_without_ranking_survives_too():
    chosen = HeadSet(heads=((0, 0),), geometry=SMALL)
    assert HeadSet.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


@pytest.mark.parametrize("name", ["heads", "num_layers", "num_heads", "num_kv_heads", "head_dim"])
def test_a_head_set_names_its_missing_field(name):
    plain = HeadSet(heads=((0, 0),), geometry=SMALL).to_json()
    del plain[name]
    with pytest.raises(ValueError, match=f"the head set lacks the field '{name}'"):
        HeadSet.from_json(plain)


def test_heads_outside_the_geometry_of_the_file_are_refused():
    plain = {**HeadSet(heads=((1, 7),), geometry=SMALL).to_json(), "num_layers": 1}
    with pytest.raises(ValueError, match=r"head \(1, 7\) lies outside"):
        HeadSet.from_json(plain)


def test_a_damaged_head_file_is_named(tmp_path):
    path = tmp_path / "heads.json"
    path.write_text('{"heads": [[0,')
    with pytest.raises(ValueError, match=r"heads\.json"):
        HeadSet.read(path)
