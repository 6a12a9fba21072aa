from collections import Counter
from pathlib import Path
from random import Random

import pytest

from alps.execute import choose_heads
from alps.heads.geometry import Geometry
from alps.methods.context import Context
from alps.methods.sampled import LayerConsistent, RandomHeads, layer_consistent

LLAMA = Geometry(num_layers=16, num_heads=32, num_kv_heads=8, head_dim=64)
SMOL = Geometry(num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64)
SAMPLED = [(RandomHeads, "random"), (LayerConsistent, "layer_consistent")]


def context(geometry: Geometry = LLAMA, seed: int = 0) -> Context:
    nowhere = Path("nowhere")
    return Context(geometry=geometry, seed=seed, base=nowhere, base_hash="hash", output_dir=nowhere)


def choose(method, name: str, ratio: float = 0.1, **where):
    return method(name=name, ratio=ratio, scope="heads_only").choose(context(**where))


@pytest.mark.parametrize(("method", "name"), SAMPLED)
@pytest.mark.parametrize(
    ("geometry", "ratio", "count"),
    [(LLAMA, 0.1, 52), (SMOL, 0.1, 27), (SMOL, 0.07, 19), (LLAMA, 1.0, 512), (LLAMA, 0.001, 1)],
)
def test_exactly_k_distinct_heads_are_chosen(method, name, geometry, ratio, count):
    chosen = choose(method, name, ratio, geometry=geometry)
    assert len(set(chosen.heads)) == len(chosen.heads) == count
    assert (chosen.ratio, chosen.geometry, chosen.base_hash) == (ratio, geometry, "hash")
    assert chosen.metric is None and chosen.task_hash is None


@pytest.mark.parametrize(("method", "name"), SAMPLED)
def test_the_seed_decides(method, name):
    assert choose(method, name, seed=1) == choose(method, name, seed=1)
    assert choose(method, name, seed=1) != choose(method, name, seed=2)


@pytest.mark.parametrize(("method", "name"), SAMPLED)
def test_runs_on_other_data_train_the_same_heads_and_of_another_seed_others(make_run, method, name):
    def heads(*settings: str) -> tuple:
        return choose_heads(make_run(f"method={name}", "ratio=0.5", *settings), fit=None).heads

    drawn = [heads(f"data={data}") for data in ("mini_general", "mini_math", "mini_code")]
    assert drawn[0] == drawn[1] == drawn[2]
    assert heads("data=mini_math", "seed=1") != drawn[0]


def test_the_two_methods_draw_differently():
    assert choose(*SAMPLED[0]).heads != choose(*SAMPLED[1]).heads


def test_the_draw_is_the_same_on_every_machine():
    small = Geometry(num_layers=2, num_heads=4, num_kv_heads=4, head_dim=1)
    assert choose(*SAMPLED[0], ratio=0.5, geometry=small).heads == ((0, 0), (0, 1), (1, 0), (1, 3))
    assert choose(*SAMPLED[1], ratio=0.5, geometry=small).heads == ((0, 1), (0, 2), (1, 1), (1, 3))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 52, 100, 511, 512])
def test_layers_differ_by_one_head_at_most(count):
    per_layer = Counter(layer for layer, _ in layer_consistent(LLAMA, count, Random(0)))
    counts = [per_layer[layer] for layer in range(LLAMA.num_layers)]
    assert sum(counts) == count
    assert set(counts) <= {count // 16, -(-count // 16)}


def test_the_layers_with_one_head_more_are_drawn_too():
    richer = []
    for seed in range(20):
        per_layer = Counter(layer for layer, _ in layer_consistent(LLAMA, 17, Random(seed)))
        richer.append(max(per_layer, key=lambda layer: per_layer[layer]))
    assert len(set(richer)) > 5


def test_random_heads_are_not_spread_evenly():
    per_layer = Counter(layer for layer, _ in choose(*SAMPLED[0]).heads)
    assert max(per_layer.values()) > 4


@pytest.mark.parametrize(("method", "name"), SAMPLED)
def test_every_head_has_the_same_chance(method, name):
    small = Geometry(num_layers=3, num_heads=4, num_kv_heads=2, head_dim=1)
    draws = [choose(method, name, 0.3, geometry=small, seed=seed) for seed in range(600)]
    drawn = Counter(head for draw in draws for head in draw.heads)
    assert set(drawn) == set(small.heads())
    assert all(150 < times < 250 for times in drawn.values())  # 4 of 12 heads: 200 expected
