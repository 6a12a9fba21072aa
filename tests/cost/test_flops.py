from math import prod

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from alps.cost.flops import ADAMW_FLOPS, FULL, Workload, flops_vs_full, step_flops
from alps.cost.shape import ModelShape
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.models.apply import apply
from alps.models.loss import IGNORE, answer_loss
from alps.models.training_plan import LoraShape, TrainingPlan

GEOMETRY = Geometry(num_layers=3, num_heads=4, num_kv_heads=2, head_dim=10)
QKV = ("q_proj", "k_proj", "v_proj")
LENGTHS, ANSWERS = (7, 12, 12, 3), (3, 4, 11, 1)
WORK = Workload.of(LENGTHS, ANSWERS, batch_size=4)


def of_heads(*heads: tuple[int, int], rest: bool = False, policy="any") -> TrainingPlan:
    chosen = HeadSet(heads=heads, geometry=GEOMETRY)
    return TrainingPlan(qkv="heads", rest=rest, heads=chosen, kv_policy=policy)


def lora(*targets: str) -> TrainingPlan:
    return TrainingPlan(qkv="none", rest=False, lora=LoraShape(rank=3, alpha=3, targets=targets))


PLANS = {
    "full": FULL,
    "no_attn": TrainingPlan(qkv="none", rest=True),
    "qkv": TrainingPlan(qkv="all", rest=False),
    "rest_trains": of_heads((0, 1), (2, 0), (2, 1), rest=True),
    "heads_only": of_heads((0, 1), (2, 0), (2, 1)),
    "heads_only in the top layer": of_heads((2, 0), (2, 3)),
    "heads_only, the middle layer lowest": of_heads((1, 2), (2, 0)),
    "heads_only, queries only": of_heads((1, 2), policy="none"),
    "lora": lora(*QKV),
    "lora on v": lora("v_proj"),
    "lora on k": lora("k_proj"),
    "lora on o and up": lora("o_proj", "up_proj"),
    "lora on down": lora("down_proj"),
    "lora on all": lora(*QKV, "o_proj", "gate_proj", "up_proj", "down_proj"),
}


def tiny(folder, kind: str = "llama", **changes):
    """A model whose attention multiplies openly, and its shape."""
    config = AutoConfig.for_model(
        kind, vocab_size=40, hidden_size=40, intermediate_size=36, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=10, **changes,
    )  # fmt: skip
    config.save_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model, ModelShape.read(folder)


def counted(model) -> tuple[float, float]:
    """Operations for each token of forward and backward pass, as torch counts them.

    Eager attention multiplies whole squares; of those, a causal kernel needs the lower half with
    the diagonal.
    """
    forward = backward = 0.0
    for length, answers in zip(LENGTHS, ANSWERS, strict=True):
        ids = torch.randint(40, (1, length))
        labels = ids.clone()
        labels[:, :-answers] = IGNORE
        with FlopCounterMode(display=False) as ahead:
            loss = answer_loss(model, ids, labels)
        with FlopCounterMode(display=False) as back:
            loss.backward()
        causal = (length + 1) / (2 * length)
        forward += of_matrices(ahead) + of_attention(ahead) * causal
        backward += of_matrices(back) + of_attention(back) * causal
    return forward / sum(LENGTHS), backward / sum(LENGTHS)


def of_matrices(mode: FlopCounterMode) -> int:
    counts = mode.get_flop_counts()["Global"]
    return counts.get(torch.ops.aten.mm, 0) + counts.get(torch.ops.aten.addmm, 0)


def of_attention(mode: FlopCounterMode) -> int:
    return mode.get_total_flops() - of_matrices(mode)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_operations_are_those_torch_counts(tmp_path, plan):
    model, shape = tiny(tmp_path, tie_word_embeddings=True)
    predicted = step_flops(shape, plan, WORK)
    forward, backward = counted(apply(model, plan))
    assert predicted.forward == pytest.approx(forward, rel=1e-9)
    assert predicted.backward == pytest.approx(backward, rel=1e-9)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("name", ["full", "rest_trains", "heads_only in the top layer", "lora"])
def test_other_architectures_multiply_alike(tmp_path, kind, name):
    model, shape = tiny(tmp_path, kind)
    predicted = step_flops(shape, PLANS[name], WORK)
    forward, backward = counted(apply(model, PLANS[name]))
    assert predicted.forward == pytest.approx(forward, rel=1e-9)
    assert predicted.backward == pytest.approx(backward, rel=1e-9)


def test_gradients_of_weights_are_those_of_what_trains(tmp_path):
    _, shape = tiny(tmp_path, tie_word_embeddings=True)
    of = {name: step_flops(shape, plan, WORK).backward_weights for name, plan in PLANS.items()}
    rows = 30 + 2 * 20  # three heads of 10 rows, and of two groups, in k and in v
    assert of["heads_only"] == 2 * 40 * rows
    assert of["rest_trains"] - of["no_attn"] == 2 * 40 * rows
    assert of["full"] - of["no_attn"] == of["qkv"] == 2 * shape.num_qkv
    assert of["lora"] == 2 * shape.num_trainable(PLANS["lora"])


def test_the_workload_of_samples():
    assert pytest.approx(8.5) == WORK.mean_length
    assert pytest.approx((49 + 144 + 144 + 9) / 4) == WORK.mean_square_length
    assert pytest.approx(19 / 34) == WORK.answer_share
    assert pytest.approx(34) == WORK.tokens_per_step
    assert Workload.of(LENGTHS, ANSWERS, batch_size=100).tokens_per_step == 34
    pairs = sum(n * (n + 1) // 2 for n in LENGTHS)  # the lower triangles with their diagonals
    assert WORK.pairs_per_token == pytest.approx(pairs / sum(LENGTHS))


def test_the_optimizer_is_spread_over_the_tokens_of_a_step(tmp_path):
    _, shape = tiny(tmp_path)
    plan = PLANS["heads_only"]
    assert step_flops(shape, plan, WORK).optimizer == ADAMW_FLOPS * 40 * 70 / 34


def test_full_needs_six_operations_for_each_parameter_that_multiplies():
    geometry = Geometry(num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64)
    shape = ModelShape(geometry=geometry, hidden=576, intermediate=1536, vocab=49152, tied=True)
    work = Workload(mean_length=1, mean_square_length=1, answer_share=1, tokens_per_step=1e9)
    flops, attention = step_flops(shape, FULL, work), 30 * prod((6, 2, 9, 64))
    assert flops.forward + flops.backward == 6 * shape.num_matmul + attention
    assert flops_vs_full(shape, FULL, work) == 1


def test_freezing_the_rest_saves_much_and_sparse_heads_alone_little():
    geometry = Geometry(num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64)
    shape = ModelShape(geometry=geometry, hidden=576, intermediate=1536, vocab=49152, tied=True)
    work = Workload(mean_length=256, mean_square_length=256**2, answer_share=1, tokens_per_step=1e6)

    def ratio(rest: bool, layers: range) -> float:
        heads = HeadSet(heads=tuple((layer, 0) for layer in layers), geometry=geometry)
        return flops_vs_full(shape, TrainingPlan(qkv="heads", rest=rest, heads=heads), work)

    assert ratio(True, range(30)) == pytest.approx(0.966, abs=0.01)
    assert ratio(False, range(30)) == pytest.approx(0.68, abs=0.02)
    assert ratio(False, range(20, 30)) == pytest.approx(0.50, abs=0.02)
    assert ratio(False, range(29, 30)) < ratio(False, range(20, 30)) < ratio(False, range(30))
