"""Frozen matrices in 4 bits, with bitsandbytes itself."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import alps
from alps.evals.run_models import trained_context
from alps.execute import execute
from alps.heads.head_set import HeadSet
from alps.models.apply import apply, cast_frozen, merge
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize
from alps.models.four_bit import (
    QuantizedLinear,
    dequantize,
    is_quantized,
    linear_from,
    matmul_4bit,
    quantize,
)
from alps.models.head_linear import HeadLinear
from alps.models.load import load_model
from alps.models.training_plan import LoraShape, TrainingPlan
from alps.runs.folder import RunFolder
from alps.training.fit import fit

ROWS = [2, 3, 8, 9]
ROUNDED = {"rtol": 0.0, "atol": 5e-3}
"""Unpacked weights are bfloat16; the product computes with the same numbers before rounding."""


def linear(bias: bool = False) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(64, 32, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
def test_the_product_is_that_of_the_unpacked_weight(bias):
    plain = linear(bias)
    packed = quantize(plain.weight)
    assert is_quantized(packed) and not is_quantized(plain.weight)
    assert packed.numel() * packed.element_size() == 64 * 32 / 2
    error = (dequantize(packed) - plain.weight).abs().max()
    assert 0 < error < 0.2 * plain.weight.abs().max()
    x = torch.randn(3, 5, 64, requires_grad=True)
    y = matmul_4bit(x, packed, plain.bias)
    expected = nn.functional.linear(x, dequantize(packed).float(), plain.bias)
    torch.testing.assert_close(y, expected, **ROUNDED)
    assert (y - plain(x)).abs().max() > 10 * ROUNDED["atol"], "packing changed nothing"
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    (wanted,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(gradient, wanted, rtol=0.0, atol=0.02)


@pytest.mark.parametrize("bias", [True, False])
def test_chosen_rows_are_exact_over_a_packed_base(bias):
    plain = linear(bias)
    layer = HeadLinear(linear(bias), ROWS)
    layer.weight = quantize(layer.weight)
    x = torch.randn(4, 64)
    y = layer(x)
    torch.testing.assert_close(y[:, ROWS], plain(x)[:, ROWS])
    rest = [i for i in range(32) if i not in ROWS]
    packed = nn.functional.linear(x, dequantize(layer.weight).float(), plain.bias)
    torch.testing.assert_close(y[:, rest], packed[:, rest], **ROUNDED)
    y.square().sum().backward()
    assert layer.rows.grad is not None and layer.weight.grad is None
    with torch.no_grad():
        layer.rows += 1
    merged = layer.merged()
    assert torch.equal(merged.weight[ROWS], layer.rows.bfloat16())
    assert torch.equal(merged.weight[rest], dequantize(layer.weight)[rest])
    torch.testing.assert_close(merged.float()(x), layer(x), rtol=0.02, atol=0.02)


def test_autocast_multiplies_in_its_own_precision():
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            matmul_4bit(torch.randn(2, 64), quantize(linear().weight), None).dtype == torch.bfloat16
        )


def test_plain_layers_are_copies():
    layer = linear(bias=True)
    copy = linear_from(dequantize(layer.weight), layer.bias)
    assert torch.equal(copy.weight, layer.weight) and torch.equal(copy.bias, layer.bias)
    assert copy.weight.data_ptr() != layer.weight.data_ptr()


HEADS_ONLY = ("method=random", "scope=heads_only", "ratio=0.2", "optim.max_steps=3")


@pytest.mark.parametrize(
    "method", [("method=random", "scope=heads_only", "ratio=0.2"), ("method=lora",)]
)
def test_a_run_over_a_4_bit_base_trains_and_is_restored(make_run, method):
    run = make_run(*method, "optim.frozen_dtype=nf4", "optim.max_steps=3")
    plain = make_run(*method, "optim.max_steps=3")
    assert run.key != plain.key
    less, more = execute(run, fit), execute(plain, fit)
    assert less.predicted_memory_bytes < more.predicted_memory_bytes
    assert {t.dtype for t in load_file(RunFolder(run.folder).weights_path).values()} == {
        torch.float32
    }
    model = trained_context(run).model
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        before = model(ids).logits
        merged = merge(model)
        assert not any(isinstance(m, QuantizedLinear | HeadLinear) for m in merged.modules())
        assert not any(is_quantized(p) for p in merged.parameters())
        torch.testing.assert_close(merged(ids).logits, before, rtol=0.05, atol=0.05)


def test_frozen_weights_are_those_of_the_base_after_packing_it(make_run):
    """Unchosen rows are bit-equal to the packed base, whatever was trained beside them."""
    run = make_run(*HEADS_ONLY, "optim.frozen_dtype=nf4")
    execute(run, fit)
    base = materialize(run.model)
    expected = load_model(base).requires_grad_(False)
    cast_frozen(expected, "nf4")
    wanted, merged = merge(expected).state_dict(), merge(trained_context(run).model).state_dict()
    heads = RunFolder(run.folder).read_heads()
    geometry = heads.geometry
    for name, tensor in merged.items():
        frozen = torch.ones(len(tensor), dtype=torch.bool)
        chosen = heads.by_layer().get(int(name.split(".")[2]), []) if ".layers." in name else []
        if "q_proj" in name:
            frozen[geometry.query_rows(chosen)] = False
        if "k_proj" in name or "v_proj" in name:
            frozen[geometry.kv_rows(chosen, "any")] = False
        assert torch.equal(tensor[frozen], wanted[name].to(tensor.dtype)[frozen]), name
        assert frozen.all() or not torch.equal(tensor, wanted[name].to(tensor.dtype))


def test_lora_is_packed_below_its_adapters(make_run):
    base = materialize(make_run().model)
    shape = LoraShape(rank=2, alpha=2.0, targets=("q_proj",))
    model = apply(load_model(base), TrainingPlan(qkv="none", rest=False, lora=shape))
    cast_frozen(model, "nf4")
    kinds = [type(m).__name__ for m in model.modules()]
    layers = read_geometry(base).num_layers
    assert kinds.count("QuantizedLinear") == 7 * layers
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_heads_of_a_model_that_transformers_quantized(make_run, tmp_path):
    base = materialize(make_run().model)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=config).train()
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        before = model(ids).logits
    heads = HeadSet(heads=((1, 0),), geometry=read_geometry(base))
    model = alps.apply(model, heads)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, before, rtol=0.02, atol=0.02)
    model(input_ids=ids, labels=ids).loss.backward()
    trained = [n for n, p in model.named_parameters() if p.grad is not None]
    assert trained and all(n.endswith(".rows") for n in trained)
    merged = alps.merge(model)
    assert type(merged.model.layers[1].self_attn.q_proj) is nn.Linear
    assert is_quantized(merged.model.layers[0].self_attn.q_proj.weight)


def test_8_bit_layers_cannot_be_trained_in_part(make_run):
    base = materialize(make_run().model)
    model = load_model(base)
    projection = model.model.layers[0].self_attn.q_proj
    weight = projection.weight.to(torch.int8)
    projection.weight = nn.Parameter(weight, requires_grad=False)
    heads = HeadSet(heads=((1, 0),), geometry=read_geometry(base))
    with pytest.raises(ValueError, match=r"cannot be trained in part: .* 4-bit ones"):
        alps.apply(model, heads)


def test_without_bitsandbytes_the_remedy_is_named(make_run, monkeypatch):
    from alps.pipeline import preflight

    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"nf4 needs bitsandbytes: run `pip install 'alps\[4bit"):
        preflight.check(make_run(*HEADS_ONLY, "optim.frozen_dtype=nf4"))
