import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from alps.heads.head_set import HeadSet
from alps.models.apply import (
    apply,
    checkpoint_activations,
    merge,
    num_parameters,
    num_trainable,
)
from alps.models.architecture import attentions, read_geometry
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.models.training_plan import LoraShape, TrainingPlan


@pytest.fixture
def base(make_run):
    return materialize(make_run().model)


@pytest.fixture
def with_biases(tmp_path):
    """A model whose q, k and v have biases."""
    config = Qwen2Config(
        vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


def head_plan(base, scope_rest: bool, policy: str = "any") -> TrainingPlan:
    heads = HeadSet(heads=((0, 1), (0, 2), (1, 7)), geometry=read_geometry(base))
    return TrainingPlan(qkv="heads", rest=scope_rest, heads=heads, kv_policy=policy)


def trainable(model) -> set[str]:
    return {n for n, p in model.named_parameters() if p.requires_grad}


def test_full_trains_everything(base):
    model = apply(load_model(base), TrainingPlan(qkv="all", rest=True))
    assert num_trainable(model) == num_parameters(model)


def test_no_attn_trains_everything_but_qkv(base):
    model = apply(load_model(base), TrainingPlan(qkv="none", rest=True))
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        f"model.layers.{i}.self_attn.{p}_proj.weight" for i in range(2) for p in "qkv"
    }


def test_heads_only_trains_exactly_the_rows_of_the_chosen_heads(base):
    model = apply(load_model(base), head_plan(base, scope_rest=False))
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad}
    assert shapes == {  # 8 heads of 8 rows, 4 heads to a KV group
        "model.layers.0.self_attn.q_proj.rows": (16, 64),
        "model.layers.0.self_attn.k_proj.rows": (8, 64),
        "model.layers.0.self_attn.v_proj.rows": (8, 64),
        "model.layers.1.self_attn.q_proj.rows": (8, 64),
        "model.layers.1.self_attn.k_proj.rows": (8, 64),
        "model.layers.1.self_attn.v_proj.rows": (8, 64),
    }


def test_the_chosen_kv_rows_are_those_of_the_heads_group(base):
    model = apply(load_model(base), head_plan(base, scope_rest=False))
    first, second = attentions(model)
    assert first.q_proj.index.tolist() == list(range(8, 24))
    assert first.k_proj.index.tolist() == list(range(0, 8))
    assert second.k_proj.index.tolist() == list(range(8, 16))


def test_rest_trains_adds_everything_outside_qkv(base):
    rows = trainable(apply(load_model(base), head_plan(base, scope_rest=False)))
    both = trainable(apply(load_model(base), head_plan(base, scope_rest=True)))
    rest = trainable(apply(load_model(base), TrainingPlan(qkv="none", rest=True)))
    assert both == rows | rest


@pytest.mark.parametrize("policy", ["all", "majority", "none"])
def test_strict_policies_leave_a_shared_group_frozen(base, policy):
    model = apply(load_model(base), head_plan(base, scope_rest=False, policy=policy))
    assert {n.split(".")[-2] for n in trainable(model)} == {"q_proj"}


def test_lora_freezes_the_model_and_starts_as_it(base):
    plain, ids = load_model(base), torch.tensor([[5, 6, 7]])
    shape = LoraShape(rank=4, alpha=4.0, targets=("q_proj", "k_proj", "v_proj"))
    model = apply(load_model(base), TrainingPlan(qkv="none", rest=False, lora=shape))
    assert all("lora_" in n for n in trainable(model))
    assert num_trainable(model) == 2 * 4 * (64 + 64 + 2 * (64 + 16))
    torch.testing.assert_close(model(ids).logits, plain(ids).logits)


def test_biases_of_frozen_projections_stay_frozen(with_biases):
    heads = HeadSet(heads=((0, 3),), geometry=read_geometry(with_biases))
    model = load_model(with_biases)
    before = model(torch.tensor([[1, 2]])).logits
    model = apply(model, TrainingPlan(qkv="heads", rest=True, heads=heads))
    assert not [n for n in trainable(model) if "_proj.bias" in n]
    torch.testing.assert_close(model(torch.tensor([[1, 2]])).logits, before)


def test_biases_of_chosen_rows_train_where_asked(with_biases):
    from alps.cost.shape import ModelShape

    heads = HeadSet(heads=((0, 3),), geometry=read_geometry(with_biases))
    plan = TrainingPlan(qkv="heads", rest=False, heads=heads, train_bias=True)
    model, plain = apply(load_model(with_biases), plan), load_model(with_biases)
    assert num_trainable(model) == ModelShape.read(with_biases).num_trainable(plan)
    ids = torch.tensor([[1, 2, 3, 4]])
    model(input_ids=ids, labels=ids).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter += 1
    merged, before = merge(model).state_dict(), plain.state_dict()
    name = "model.layers.0.self_attn.q_proj.bias"
    assert torch.equal(merged[name][24:], before[name][24:] + 1)
    assert torch.equal(merged[name][:24], before[name][:24])
    assert torch.equal(
        merged["model.layers.1.self_attn.q_proj.bias"],
        before["model.layers.1.self_attn.q_proj.bias"],
    )


def test_with_checkpointed_activations_no_layer_below_the_chosen_heads_is_visited(base):
    """The embeddings' output would make the backward pass go through all layers."""
    model = apply(load_model(base), head_plan(base, scope_rest=False))
    checkpoint_activations(model)
    needs = []
    embeddings = model.get_input_embeddings()
    embeddings.register_forward_hook(lambda m, x, output: needs.append(output.requires_grad))
    model.train()(torch.tensor([[5, 6, 7]]))
    assert needs == [False]


def test_merge_writes_the_rows_and_nothing_else(base):
    start = load_model(base).state_dict()
    model = apply(load_model(base), head_plan(base, scope_rest=False))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("rows"):
                parameter += 1
    after = merge(model).state_dict()
    assert after.keys() == start.keys()
    q = "model.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(after[q][8:24], start[q][8:24] + 1)
    assert torch.equal(after[q][24:], start[q][24:]) and torch.equal(after[q][:8], start[q][:8])
    untouched = {n for n in start if torch.equal(start[n], after[n])}
    assert len(start) - len(untouched) == 6
