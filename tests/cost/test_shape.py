import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from alps.cost.shape import ModelShape
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.models.apply import apply, num_parameters, num_trainable
from alps.models.checkpoint import materialize
from alps.models.training_plan import LoraShape, TrainingPlan

SIZES = {
    "vocab_size": 40, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10,
}  # fmt: skip
QKV = ("q_proj", "k_proj", "v_proj")
HEADS = HeadSet(
    heads=((0, 1), (2, 0), (2, 1), (2, 3)),
    geometry=Geometry(num_layers=3, num_heads=4, num_kv_heads=2, head_dim=10),
)
PLANS = {
    "full": TrainingPlan(qkv="all", rest=True),
    "no_attn": TrainingPlan(qkv="none", rest=True),
    "qkv": TrainingPlan(qkv="all", rest=False),
    "rest_trains": TrainingPlan(qkv="heads", rest=True, heads=HEADS),
    "heads_only": TrainingPlan(qkv="heads", rest=False, heads=HEADS),
    "majority": TrainingPlan(qkv="heads", rest=False, heads=HEADS, kv_policy="majority"),
    "lora": TrainingPlan(
        qkv="none", rest=False, lora=LoraShape(rank=3, alpha=3, targets=(*QKV, "down_proj"))
    ),
}


def model_and_shape(folder, kind: str, **changes):
    """A model without memory, and what is read of its configuration."""
    sizes = {**SIZES, **changes}
    if kind == "qwen2":  # its head_dim follows from the others
        sizes |= {"hidden_size": 40}
    config = AutoConfig.for_model(kind, **sizes)
    config.save_pretrained(folder)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config), ModelShape.read(folder)


def weights(model, *names: str) -> int:
    return sum(p.numel() for n, p in model.named_parameters() if any(f".{m}." in n for m in names))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("qwen3", {"attention_bias": True}),
        ("mistral", {}),
    ],
)
def test_parameters_are_those_of_the_real_model(tmp_path, kind, changes, tied):
    model, shape = model_and_shape(tmp_path, kind, tie_word_embeddings=tied, **changes)
    assert shape.num_parameters == num_parameters(model)
    assert shape.num_qkv == weights(model, *QKV)
    matrices = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert shape.num_matmul == sum(m.weight.numel() for m in matrices)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_trainable_parameters_are_those_that_apply_unfreezes(tmp_path, plan, kind):
    model, shape = model_and_shape(tmp_path, kind, tie_word_embeddings=True)
    assert shape.num_trainable(plan) == num_trainable(apply(model, plan))


@pytest.mark.parametrize(
    ("hidden", "intermediate", "layers", "heads", "head_dim", "tied", "parameters"),
    [
        (2048, 8192, 16, 32, 64, True, 1_235_814_400),  # Llama-3.2-1B
        (3072, 8192, 28, 24, 128, True, 3_212_749_824),  # Llama-3.2-3B
        (4096, 14336, 32, 32, 128, False, 8_030_261_248),  # Llama-3.1-8B
    ],
)
def test_llama_3_has_its_known_size(
    hidden, intermediate, layers, heads, head_dim, tied, parameters
):
    geometry = Geometry(num_layers=layers, num_heads=heads, num_kv_heads=8, head_dim=head_dim)
    shape = ModelShape(
        geometry=geometry, hidden=hidden, intermediate=intermediate, vocab=128_256, tied=tied
    )
    assert shape.num_parameters == parameters


def test_the_default_model_has_its_known_size(make_run):
    shape = ModelShape.read(materialize(make_run("model=smollm2_135m_q4").model))
    assert shape.num_parameters == 134_515_008
    assert shape.num_qkv == 16_588_800


@pytest.mark.parametrize("name", ["intermediate_size", "vocab_size"])
def test_a_configuration_without_a_size_is_refused(tmp_path, name):
    sizes = {"model_type": "llama", **{k: v for k, v in SIZES.items() if k != name}}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    with pytest.raises(ValueError, match=f"config.json in .* has no {name}$"):
        ModelShape.read(tmp_path)


def test_an_unknown_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="fused matrix"):
        ModelShape.read(tmp_path)
