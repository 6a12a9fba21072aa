import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from alps.heads.geometry import Geometry
from alps.models.architecture import FAMILIES, geometry_of, read_geometry
from alps.models.byte_tokenizer import byte_tokenizer
from alps.models.checkpoint import materialize
from alps.models.integrity import check_weights
from alps.models.load import check_loadable, load_model, load_tokenizer
from alps.settings.model import Model

SHAPE = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 2,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    """A complete, untied model with its tokenizer."""
    return saved(tmp_path / "model")


def saved(to: Path, **changes) -> Path:
    tokenizer = byte_tokenizer()
    config = {**SHAPE, "vocab_size": len(tokenizer), "tie_word_embeddings": False, **changes}
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**config)).save_pretrained(to)
    tokenizer.save_pretrained(to)
    return to


def rewrite(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", {"format": "pt"})


def reconfigure(folder: Path, **changes) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def refusal(folder: Path) -> str:
    """The same sentence from the check that reads no weights and from the loader itself."""
    with pytest.raises(ValueError, match=r"model") as error:
        check_weights(folder)
    with pytest.raises(ValueError, match=r"model") as again:
        load_model(folder)
    assert str(error.value) == str(again.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_complete_checkpoint_is_accepted(folder):
    assert check_weights(folder) == len(byte_tokenizer())
    check_loadable(folder)


def test_missing_tensors_are_named(folder):
    rewrite(folder, lambda t: {k: v for k, v in t.items() if "layers.1.mlp" not in k})
    told = refusal(folder)
    assert "lacks 3 tensors (model.layers.1.mlp.down_proj.weight, " in told
    assert "random" in told and "a shard is missing" in told


def test_tensors_without_a_place_are_named(folder):
    reconfigure(folder, num_hidden_layers=1)
    told = refusal(folder)
    assert "holds 9 tensors (model.layers.1." in told and "and 6 more" in told
    assert "config.json is of another (smaller) model" in told


@pytest.mark.parametrize(
    ("rename", "cause"),
    [
        (lambda n: f"language_model.{n}", "names in the file begin with 'language_model.'"),
        (lambda n: n.replace("q_proj.w", "q_proj.base_layer.w"), "saved unmerged; merge it"),
        (lambda n: n if n != "lm_head.weight" else "", "neither stored nor tied"),
    ],
    ids=["multimodal", "adapter", "head"],
)
def test_what_usually_causes_it_is_told(folder, rename, cause):
    rewrite(folder, lambda t: {rename(k): v for k, v in t.items() if rename(k)})
    assert cause in refusal(folder)


def test_another_shape_is_told_with_both(folder):
    reconfigure(folder, vocab_size=300)
    rows = len(byte_tokenizer())
    assert f"holds lm_head.weight of shape [{rows}, 64] where config.json describes [300, 64]" in (
        refusal(folder)
    )


def test_whole_numbers_are_no_weights(folder):
    rewrite(folder, lambda t: {k: (v * 100).to(torch.int8) for k, v in t.items()})
    assert "is stored as I8: give the model before quantization" in refusal(folder)


def test_an_adapter_beside_the_model_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert "adapter beside a model" in refusal(folder)


def test_a_missing_shard_is_refused(folder):
    model = load_model(folder)
    shutil.rmtree(folder)
    model.save_pretrained(folder, max_shard_size="50KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[-1].unlink()
    assert f"lacks {shards[-1].name}, which its index names" in refusal(folder)


def test_tied_heads_and_old_buffers_are_no_fault(tmp_path):
    folder = saved(tmp_path / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    rewrite(folder, lambda t: {**t, **buffer})
    check_weights(folder)
    rewrite(folder, lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"].clone()})
    check_weights(folder)


def test_a_tied_head_that_differs_is_refused(folder):
    reconfigure(folder, tie_word_embeddings=True)
    assert "holds another lm_head.weight: set tie_word_embeddings to false" in refusal(folder)


def test_a_checkpoint_that_changes_is_looked_at_again(folder):
    check_weights(folder)
    rewrite(folder, lambda t: {k: v for k, v in t.items() if "norm" not in k})
    assert "lacks 5 tensors" in refusal(folder)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("given", [{}, {"num_key_value_heads": None}, {"num_key_value_heads": 2}])
def test_what_configs_leave_out_is_what_transformers_takes(kind, given):
    sizes = {"hidden_size": 256, "num_attention_heads": 32, "num_hidden_layers": 2, **given}
    if kind in ("mistral", "gemma3_text") and None in given.values():
        return  # transformers itself refuses it
    config = AutoConfig.for_model(kind, **sizes)
    found = geometry_of({"model_type": kind, **sizes}, "here")
    head_dim = getattr(config, "head_dim", None) or 256 // 32
    assert found == Geometry(
        num_layers=2, num_heads=32, num_kv_heads=config.num_key_value_heads, head_dim=head_dim
    )


def test_qwen3_without_head_dim_has_that_of_its_class(tmp_path):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path / "qwen3"
    shape = {**SHAPE, "hidden_size": 128, "head_dim": 128, "vocab_size": len(byte_tokenizer())}
    Qwen3ForCausalLM(Qwen3Config(**shape)).save_pretrained(folder)
    reconfigure(folder, head_dim=...)
    assert read_geometry(folder).head_dim == 128
    check_weights(folder)
    reconfigure(folder, head_dim=16)
    assert "of shape [128] where config.json describes [16]" in refusal(folder)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(folder):
    tokenizer = byte_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match=rf"has {rows + 2} tokens.* matrix has {rows} rows"):
        check_loadable(folder)


def test_a_model_without_tokenizer_files_is_refused(folder):
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer \(none of tokenizer\.json, "):
        check_loadable(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"the tokenizer in .* cannot be loaded \("):
        load_tokenizer(folder)


@pytest.mark.parametrize("how", ["gptq", "awq", "compressed-tensors", "bitsandbytes"])
def test_quantized_checkpoints_are_refused_by_their_config(folder, how):
    reconfigure(folder, quantization_config={"quant_method": how, "bits": 4})
    with pytest.raises(ValueError, match=rf"quantized checkpoint \({how}\).*frozen_dtype=nf4"):
        materialize(Model(path=str(folder)))


def in_float8(folder: Path, block: int = 32) -> dict[str, torch.Tensor]:
    """Stores the projections as float8 with a scale for each block; the weights they stand for."""
    stored, meant = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            stored[name] = weight.bfloat16()
            meant[name] = stored[name].float()
            continue
        blocks = weight.unflatten(0, (-1, block)).unflatten(2, (-1, block))
        scale = blocks.abs().amax((1, 3)) / 448
        wide = scale.repeat_interleave(block, 0).repeat_interleave(block, 1)
        stored[name] = (weight / wide).to(torch.float8_e4m3fn)
        stored[f"{name}_scale_inv"] = scale
        meant[name] = stored[name].float() * wide
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    how = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    reconfigure(
        folder, dtype="bfloat16", quantization_config={**how, "weight_block_size": [block, block]}
    )
    return meant


def test_float8_becomes_the_float32_it_stands_for(tmp_path):
    folder = saved(tmp_path / "fp8", num_key_value_heads=4)
    meant = in_float8(folder)
    plain = materialize(Model(name="fp8", path=str(folder)))
    found = load_file(plain / "model.safetensors")
    assert found.keys() == meant.keys()
    assert all(torch.equal(found[name], weight) for name, weight in meant.items())
    config = json.loads((plain / "config.json").read_text())
    assert config["dtype"] == "float32" and "quantization_config" not in config
    check_loadable(plain)
    assert plain == materialize(Model(name="fp8", path=str(folder)))


def test_float8_keeps_the_other_files_of_its_checkpoint(tmp_path):
    """Among them the end tokens and generation settings that its publisher names."""
    folder = saved(tmp_path / "fp8", num_key_value_heads=4)
    in_float8(folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 7], "top_k": 20}')
    plain = materialize(Model(name="fp8", path=str(folder)))
    names = {path.name for path in folder.iterdir()} - {"config.json", "model.safetensors"}
    assert {"chat_template.jinja", "generation_config.json", "tokenizer.json"} <= names
    for name in names:
        assert (plain / name).read_bytes() == (folder / name).read_bytes(), name


def test_float8_without_scales_is_refused(tmp_path):
    folder = saved(tmp_path / "fp8", num_key_value_heads=4)
    in_float8(folder)
    rewrite(folder, lambda t: {k: v for k, v in t.items() if "scale" not in k})
    with pytest.raises(ValueError, match=r"is stored as F8_E4M3 without its scales"):
        materialize(Model(path=str(folder)))
