"""Every supported architecture, from a folder, through the whole pipeline."""

import pytest
import torch
import transformers

from alps.execute import execute
from alps.models.apply import merge
from alps.models.byte_tokenizer import byte_tokenizer
from alps.models.load import load_model
from alps.runs.folder import RunFolder
from alps.training.fit import fit
from alps.training.restore import restore


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3", "Gemma3"])
def test_a_local_folder_of_each_family_trains(make_run, tmp_path, family):
    text = "Text" if family == "Gemma3" else ""
    config = getattr(transformers, f"{family}{text}Config")(
        vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=1024,
    )  # fmt: skip
    torch.manual_seed(0)
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(tmp_path / family)
    byte_tokenizer().save_pretrained(tmp_path / family)
    run = make_run(f"model.path={tmp_path / family}", "ratio=0.2", "scope=heads_only")
    result = execute(run, fit)
    assert result.model == family and result.num_heads_selected == 2
    before = load_model(tmp_path / family).state_dict()
    after = merge(restore(run)).state_dict()
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    layers = RunFolder(run.folder).read_heads().by_layer()
    assert changed == {f"model.layers.{i}.self_attn.{p}_proj.weight" for i in layers for p in "qkv"}
