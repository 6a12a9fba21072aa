"""`budget` and `depth` of the methods that choose heads by chance; scored ones share the code."""

from pathlib import Path

import pytest

from alps.heads.geometry import Geometry
from alps.methods.context import Context
from alps.methods.sampled import LayerConsistent, RandomHeads

SMOL = Geometry(num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64)
METHODS = [RandomHeads, LayerConsistent]


def choose(method, seed: int = 0, **settings):
    nowhere = Path("nowhere")
    context = Context(geometry=SMOL, seed=seed, base=nowhere, base_hash="h", output_dir=nowhere)
    settings = {"ratio": 0.1, "scope": "heads_only", **settings}
    return method(name="m", **settings).choose(context)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("policy", ["any", "all", "majority", "none"])
def test_a_budget_of_parameters_is_never_exceeded_and_nearly_used(method, ratio, policy):
    for seed in range(3):
        heads = choose(method, seed, ratio=ratio, budget="params", kv_policy=policy)
        assert heads.qkv_share(policy) <= ratio
        one_head_and_group = 3 / (9 + 6) / 30
        if method is RandomHeads:  # even spreading makes larger steps
            assert heads.qkv_share(policy) > ratio - 2 * one_head_and_group


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_of_heads_is_the_papers_count(method):
    assert len(choose(method).heads) == 27
    assert choose(method).qkv_share() > 0.1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("depth", "first"), [("any", 0), ("top_half", 15), ("top_third", 20)])
def test_depth_leaves_the_lower_layers_alone(method, depth, first):
    layers = [layer for seed in range(5) for layer, _ in choose(method, seed, depth=depth).heads]
    assert min(layers) >= first
    assert max(layers) == 29
    assert len(layers) == 5 * 27


def test_at_least_one_head_trains_whatever_the_budget():
    assert len(choose(RandomHeads, ratio=0.0001, budget="params").heads) == 1


def test_a_depth_without_room_is_refused():
    method = RandomHeads(name="random", ratio=0.5, scope="heads_only", depth="top_third")
    with pytest.raises(
        ValueError, match=r"asks for 135 heads, but method\.depth=top_third leaves 90"
    ):
        method.check(SMOL)


def test_all_heads_of_some_layers_are_not_full():
    settings = {"name": "random", "ratio": 1.0, "scope": "rest_trains"}
    assert RandomHeads(**settings).normalized().name == "full"
    assert RandomHeads(**settings, depth="top_half").normalized().name == "random"
