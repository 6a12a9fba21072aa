"""Gemma-3: four norms per layer, norms of q and k, wide heads, windows, a vision model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
)

import alps
from alps.cost.shape import ModelShape
from alps.execute import execute
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.models.apply import apply, num_parameters, num_trainable
from alps.models.architecture import geometry_of, qkv_names, read_geometry
from alps.models.byte_tokenizer import byte_tokenizer
from alps.models.checkpoint import materialize
from alps.models.export import export_run
from alps.models.load import check_loadable, load_model, load_tokenizer
from alps.models.training_plan import LoraShape, TrainingPlan
from alps.runs.folder import RunFolder
from alps.settings.model import Model
from alps.training.fit import fit
from alps.training.restore import restore

TEXT = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 8,
    "query_pre_attn_scalar": 16, "max_position_embeddings": 1024,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
GEOMETRY = Geometry(num_layers=3, num_heads=4, num_kv_heads=2, head_dim=16)
HEADS = HeadSet(heads=((0, 1), (2, 0), (2, 3)), geometry=GEOMETRY)


def save_text(folder: Path, seed: int = 0, **changes) -> Path:
    torch.manual_seed(seed)
    Gemma3ForCausalLM(Gemma3TextConfig(**{**TEXT, **changes})).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_multimodal(folder: Path, text: Path, **options) -> Path:
    """A checkpoint whose language model is that in `text`."""
    config = Gemma3Config(text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4)
    model = Gemma3ForConditionalGeneration(config)
    language = Gemma3ForCausalLM.from_pretrained(text)
    model.get_decoder().load_state_dict(language.get_decoder().state_dict())
    model.save_pretrained(folder, **options)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path) -> Path:
    return save_text(tmp_path / "text")


def test_its_geometry_is_read_from_both_kinds_of_checkpoint(text, tmp_path):
    assert read_geometry(text) == GEOMETRY
    assert read_geometry(save_multimodal(tmp_path / "both", text)) == GEOMETRY


def test_what_published_multimodal_configs_leave_out_has_its_default():
    sizes = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    config = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **sizes}}
    wanted = Geometry(num_layers=34, num_heads=8, num_kv_heads=4, head_dim=256)
    assert geometry_of(config, "here") == wanted
    shape, of_class = ModelShape.of(config, "here"), Gemma3TextConfig(**sizes)
    assert (shape.vocab, shape.tied) == (of_class.vocab_size, of_class.tie_word_embeddings)
    with pytest.raises(ValueError, match="has no hidden_size, num_hidden_layers"):
        geometry_of({"model_type": "gemma3"}, "here")


@pytest.mark.parametrize("changes", [{}, {"attention_bias": True}, {"tie_word_embeddings": False}])
def test_parameters_are_those_of_the_real_model(tmp_path, changes):
    folder = save_text(tmp_path / "text", **changes)
    model, shape = load_model(folder), ModelShape.read(folder)
    assert shape.num_parameters == num_parameters(model)
    own = [
        p for n, p in model.named_parameters() if n.split(".")[-2] in ("q_proj", "k_proj", "v_proj")
    ]
    assert shape.num_qkv == sum(p.numel() for p in own)
    matrices = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert shape.num_matmul == sum(m.weight.numel() for m in matrices)


@pytest.mark.parametrize(
    "plan",
    [
        TrainingPlan(qkv="all", rest=True),
        TrainingPlan(qkv="none", rest=True),
        TrainingPlan(qkv="heads", rest=True, heads=HEADS),
        TrainingPlan(qkv="heads", rest=False, heads=HEADS),
        TrainingPlan(qkv="none", rest=False, lora=LoraShape(rank=2, alpha=2, targets=("q_proj",))),
    ],
    ids=["full", "no_attn", "rest_trains", "heads_only", "lora"],
)
def test_trainable_parameters_are_those_that_apply_unfreezes(text, plan):
    assert ModelShape.read(text).num_trainable(plan) == num_trainable(apply(load_model(text), plan))


def test_the_language_model_of_a_multimodal_checkpoint_is_extracted(text, tmp_path):
    for shard in (None, "40KB"):
        options = {"max_shard_size": shard} if shard else {}
        stored = save_multimodal(tmp_path / f"both-{shard}", text, **options)
        plain = materialize(Model(name=f"both-{shard}", path=str(stored)))
        assert plain != stored and read_geometry(plain) == GEOMETRY
        check_loadable(plain)
        config = json.loads((plain / "config.json").read_text())
        assert (config["model_type"], config["architectures"]) == (
            "gemma3_text",
            ["Gemma3ForCausalLM"],
        )
        found, wanted = load_model(plain).state_dict(), load_model(text).state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_quantized_multimodal_checkpoints_are_refused(text, tmp_path):
    stored = save_multimodal(tmp_path / "both", text)
    config = json.loads((stored / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8"}
    (stored / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"is a quantized checkpoint \(fp8\)"):
        materialize(Model(path=str(stored)))


def test_scores_are_the_same_with_and_without_the_vision_model(text, tmp_path):
    task = save_text(tmp_path / "task", seed=1)
    scores = alps.localize(text, task)
    assert scores.values.shape == (3, 4) and (scores.values > 0).all()
    both = [save_multimodal(tmp_path / f"both-{p.name}", p) for p in (text, task)]
    assert (alps.localize(*both).values == scores.values).all()
    assert (alps.localize(text, both[1]).values == scores.values).all()


def test_a_trained_run_keeps_unchosen_rows_and_its_export_reloads(text, make_run, tmp_path):
    base = save_multimodal(tmp_path / "gemma", text)
    run = make_run(f"model.path={base}", "method=random", "ratio=0.2", "scope=heads_only")
    execute(run, fit)
    chosen = RunFolder(run.folder).read_heads().by_layer()
    export_run(run, "hf", tmp_path / "export", restore)
    before = load_file(text / "model.safetensors")
    after = load_file(tmp_path / "export" / "model.safetensors")
    assert after.keys() == before.keys()
    moved = {n: (before[n] != after[n]).reshape(len(after[n]), -1).any(1) for n in before}
    expected = {name: torch.zeros(len(rows), dtype=torch.bool) for name, rows in moved.items()}
    for layer, heads in chosen.items():
        keys = GEOMETRY.kv_rows(heads, "any")
        rows = (GEOMETRY.query_rows(heads), keys, keys)
        for name, own in zip(qkv_names(layer), rows, strict=True):
            expected[name][own] = True
    assert all(torch.equal(moved[name], expected[name]) for name in moved)
    ids = torch.arange(20)[None]
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert load_tokenizer(tmp_path / "export").eos_token_id is not None
    torch.testing.assert_close(reloaded(ids).logits, restore(run)(ids).logits)


def test_heads_of_a_model_in_memory_can_be_trained(text, tmp_path):
    stored = save_multimodal(tmp_path / "both", text)
    model = alps.apply(Gemma3ForConditionalGeneration.from_pretrained(stored), HEADS)
    trainable = {n.split("layers.")[1] for n, p in model.named_parameters() if p.requires_grad}
    assert trainable == {f"{i}.self_attn.{p}_proj.rows" for i in (0, 2) for p in "qkv"}
    assert not any(hasattr(module, "rows") for module in alps.merge(model).modules())
