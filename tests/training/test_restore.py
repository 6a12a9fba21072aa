"""A trained run as a checkpoint to score: its own file where that holds all, else q, k and v."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from alps.execute import execute
from alps.models.apply import merge
from alps.models.byte_tokenizer import byte_tokenizer
from alps.runs.folder import RunFolder
from alps.training.fit import fit
from alps.training.restore import qkv_checkpoint, restore, scorable_checkpoint


@pytest.fixture
def with_biases(tmp_path):
    """A model whose projections have biases that are not zero."""
    config = Qwen2Config(
        vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "biased")
    byte_tokenizer().save_pretrained(tmp_path / "biased")
    return tmp_path / "biased"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_q_k_and_v_are_those_of_the_merged_model_with_their_biases(make_run, with_biases, method):
    run = make_run(f"model.path={with_biases}", f"method={method}", "optim.max_steps=1")
    execute(run, fit)
    stored, merged = load_file(qkv_checkpoint(run)), merge(restore(run)).state_dict()
    wanted = {n for n in merged if n.split(".")[-2] in ("q_proj", "k_proj", "v_proj")}
    assert stored.keys() == wanted and sum(n.endswith("bias") for n in wanted) == 6
    assert all(torch.equal(tensor, merged[name]) for name, tensor in stored.items())


def test_weights_that_hold_all_projections_are_scored_themselves(make_run):
    run = make_run("method=full", "optim.max_steps=1")
    execute(run, fit)
    folder = RunFolder(run.folder)
    assert scorable_checkpoint(run) == folder.weights_path
    assert not folder.qkv_path.exists(), "nothing is written beside them"


def test_weights_are_not_put_on_a_base_that_has_changed_since(make_run, with_biases):
    run = make_run(f"model.path={with_biases}", "method=random", "optim.max_steps=1")
    execute(run, fit)
    folder = RunFolder(run.folder)  # its name follows the base
    restore(run, folder)
    weights = load_file(with_biases / "model.safetensors")
    save_file({n: t * 1.5 for n, t in weights.items()}, with_biases / "model.safetensors")
    with pytest.raises(ValueError, match=r"trained on the base .* bring the old base back"):
        restore(run, folder)
