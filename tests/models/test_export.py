import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from alps.execute import execute
from alps.heads.head_set import HeadSet
from alps.models import apply as application
from alps.models.architecture import read_geometry
from alps.models.byte_tokenizer import byte_tokenizer
from alps.models.checkpoint import materialize
from alps.models.export import (
    check_format,
    export_lora,
    export_model,
    export_run,
    new_folder,
    rank_warnings,
)
from alps.models.load import load_model, load_tokenizer, pad_id
from alps.models.rows import TensorRows, TrainedRows, rows_of
from alps.models.training_plan import LoraShape, TrainingPlan
from alps.runs.folder import RunFolder
from alps.settings.model import Model
from alps.training.fit import fit
from alps.training.restore import restore

IDS = torch.tensor([[5, 6, 7, 8, 9]])
SHAPE = dict(
    vocab_size=48, hidden_size=32, intermediate_size=32, num_hidden_layers=12,
    num_attention_heads=4, num_key_value_heads=2,
)  # fmt: skip
HEADS = ((1, 0), (1, 1), (1, 3), (11, 2))
"""Layers 1 and 11 with different ranks; layer 10 and all others untouched."""


@pytest.fixture(params=["llama", "qwen2", "bfloat16"])
def base(request, tmp_path) -> Path:
    torch.manual_seed(0)
    if request.param == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**SHAPE))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
    else:
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True))
    dtype = torch.bfloat16 if request.param == "bfloat16" else torch.float32
    model.to(dtype).save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(base: Path, rest: bool = False) -> nn.Module:
    """Whatever trains moved by chance."""
    chosen = HeadSet(heads=HEADS, geometry=read_geometry(base))
    model = application.apply(load_model(base), TrainingPlan(qkv="heads", rest=rest, heads=chosen))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def origin(base: Path) -> dict[str, str | None]:
    return {"base_model_name_or_path": str(base), "revision": None}


def with_adapter(base: Path, folder: Path) -> nn.Module:
    """As peft loads it; a warning about keys is an error (deprecations inside peft are not)."""
    model = load_model(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return PeftModel.from_pretrained(model, folder).eval()


def test_the_adapter_equals_the_merged_export(base, tmp_path):
    model = trained(base)
    start = load_model(base).eval()(IDS).logits
    rows = rows_of(model)
    ranks = export_lora(rows, base, origin(base), tmp_path / "adapter")
    export_model(model, byte_tokenizer(), tmp_path / "plain")
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain").eval()(IDS).logits
        adapted = with_adapter(base, tmp_path / "adapter")(IDS).logits
    assert (plain - start).abs().max() > 0.01, "the training moved nothing"
    torch.testing.assert_close(adapted, plain, rtol=1e-5, atol=1e-5)
    q = "model.layers.{}.self_attn.{}_proj"
    assert ranks == {q.format(layer, p): 24 for layer in (1, 11) for p in "qkv"}


def test_all_adapters_share_one_rank_and_have_scale_one(base, tmp_path):
    """llama.cpp divides the one alpha by each tensor's own rank, so ranks must not differ."""
    export_lora(rows_of(trained(base)), base, origin(base), tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 24, "vLLM reads these alone"
    assert config["base_model_name_or_path"] == str(base) and config["inference_mode"]
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    model = with_adapter(base, tmp_path / "adapter")
    found = {n: m for n, m in model.named_modules() if hasattr(m, "lora_A")}
    prefix = "base_model.model.model.layers."
    ranks = {n.removeprefix(prefix): m.r["default"] for n, m in found.items()}
    assert ranks == {f"{layer}.self_attn.{p}_proj": 24 for layer in (1, 11) for p in "qkv"}
    assert {m.scaling["default"] for m in found.values()} == {1.0}
    assert {m.lora_A["default"].weight.shape[0] for m in found.values()} == {24}


def test_the_adapter_is_the_rows_and_nothing_else(base, tmp_path):
    rows = rows_of(trained(base))
    export_lora(rows, base, origin(base), tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(saved) == 12
    assert {p.name for p in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    before = load_model(base).state_dict()
    for name, (numbers, values) in rows.parts.items():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        moved = saved[f"{key}.lora_B.weight"] @ saved[f"{key}.lora_A.weight"]
        expected = torch.zeros_like(before[name])
        expected[numbers] = values - before[name][numbers]
        assert torch.equal(moved, expected), name


def test_trained_biases_are_no_adapter(base, tmp_path):
    rows = rows_of(trained(base))
    bias = {"model.layers.0.self_attn.k_proj.bias": TensorRows(torch.tensor([0]), torch.ones(1))}
    with pytest.raises(ValueError, match="cannot hold trained biases: use format=hf"):
        export_lora(
            TrainedRows(parts={**rows.parts, **bias}, geometry=rows.geometry),
            base, origin(base), tmp_path / "adapter",
        )  # fmt: skip
    assert not (tmp_path / "adapter").exists()


def test_tied_embeddings_stay_tied(tmp_path):
    config = LlamaConfig(**SHAPE, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    model = trained(tmp_path / "base", rest=True)
    expected = model(IDS).logits
    export_model(model, byte_tokenizer(), tmp_path / "plain")
    names = load_file(tmp_path / "plain" / "model.safetensors")
    assert "model.embed_tokens.weight" in names and "lm_head.weight" not in names
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "plain").eval()
    assert found.lm_head.weight.data_ptr() == found.model.embed_tokens.weight.data_ptr()
    torch.testing.assert_close(found(IDS).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ({}, []),
        ({"a": 16, "b": 16}, []),
        ({"a": 17, "b": 17}, ["default max_lora_rank of vLLM: serve it with --max-lora-rank 32"]),
        ({"a": 512}, ["--max-lora-rank 512"]),
        ({"a": 513}, ["above 512, the highest max_lora_rank of vLLM: serve format=hf"]),
    ],
)
def test_what_servers_will_not_take_is_told(ranks, expected):
    told = list(rank_warnings(ranks))
    assert len(told) == len(expected)
    for sentence, part in zip(told, expected, strict=True):
        assert part in sentence


@pytest.mark.parametrize(
    ("plan", "format", "message"),
    [
        (TrainingPlan(qkv="all", rest=True), "rows", "format=rows holds rows of chosen heads"),
        (TrainingPlan(qkv="all", rest=True), "lora", "use format=hf"),
        (TrainingPlan(qkv="none", rest=True), "lora", "use format=hf"),
        (
            TrainingPlan(
                qkv="none", rest=False, lora=LoraShape(rank=1, alpha=1.0, targets=("q_proj",))
            ),
            "rows",
            "use format=lora or format=hf",
        ),
    ],
)
def test_formats_that_cannot_hold_a_plan_name_one_that_can(plan, format, message):
    with pytest.raises(ValueError, match=message):
        check_format(format, plan)
    check_format("hf", plan)


def test_a_folder_comes_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "sub" / "to") as temporary:
        (temporary / "half").touch()
        raise RuntimeError
    assert list((tmp_path / "sub").iterdir()) == []
    with new_folder(tmp_path / "sub" / "to") as temporary:
        (temporary / "whole").touch()
    assert [p.name for p in (tmp_path / "sub").rglob("*")] == ["to", "whole"]
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in ("sub/to", "link"):
        with pytest.raises(ValueError, match="exists already"), new_folder(tmp_path / taken):
            pass
    with (
        pytest.raises(ValueError, match="cannot be made"),
        new_folder(tmp_path / "sub" / "to" / "whole" / "below"),
    ):
        pass


def test_an_existing_folder_is_never_overwritten(base, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="exists already"):
        export_model(load_model(base), load_tokenizer(base), tmp_path)
    with pytest.raises(ValueError, match="exists already"):
        export_lora(rows_of(trained(base)), base, origin(base), tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def heads_run(make_run):
    run = make_run("method=random", "scope=heads_only", "ratio=0.2", "optim.lr=1e-2")
    execute(run, fit)
    return run


def test_all_formats_of_a_run_of_heads_are_the_same_model(heads_run, tmp_path):
    run, base = heads_run, materialize(heads_run.model)
    assert export_run(run, "hf", tmp_path / "hf", restore) == {}
    assert export_run(run, "rows", tmp_path / "rows", restore) == {}
    ranks = export_run(run, "lora", tmp_path / "lora", restore)
    assert max(ranks.values()) >= 8
    assert {p.name for p in (tmp_path / "rows").iterdir()} == {"heads.safetensors", "run.yaml"}
    settings = RunFolder(run.folder).settings_path
    assert (tmp_path / "rows" / "run.yaml").read_bytes() == settings.read_bytes()
    plain = load_model(tmp_path / "hf").eval()
    rows = TrainedRows.read(tmp_path / "rows")
    merged = load_model(base)
    for name, part in rows.parts.items():
        merged.get_parameter(name).data[part.indices] = part.values
    for (name, a), b in zip(plain.named_parameters(), merged.parameters(), strict=True):
        assert torch.equal(a, b), name
    adapted = with_adapter(base, tmp_path / "lora")
    torch.testing.assert_close(adapted(IDS).logits, plain(IDS).logits, rtol=1e-5, atol=1e-5)


def test_a_run_without_a_file_of_rows_has_them_in_its_weights(heads_run, tmp_path):
    export_run(heads_run, "rows", tmp_path / "one", restore)
    (RunFolder(heads_run.folder).weights_path.parent / "heads.safetensors").unlink()
    export_run(heads_run, "rows", tmp_path / "two", restore)
    one, two = (tmp_path / n / "heads.safetensors" for n in ("one", "two"))
    a, b = load_file(one), load_file(two)
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_a_base_that_changed_is_refused(heads_run, tmp_path):
    moved = replace(heads_run, model=Model(name="other", random=heads_run.model.random, seed=5))
    folder = RunFolder(moved.folder)
    folder.weights_path.parent.mkdir(parents=True)
    old = RunFolder(heads_run.folder)
    for name in ("heads.json", "weights/heads.safetensors"):
        (folder.path / name).write_bytes((old.path / name).read_bytes())
    for format in ("rows", "lora"):
        with pytest.raises(ValueError, match="bring the old base back"):
            export_run(moved, format, tmp_path / "to", restore)
    assert not (tmp_path / "to").exists()


def test_a_lora_run_exports_its_own_adapter(make_run, tmp_path):
    run = make_run("method=lora", "method.rank=4", "method.alpha=8", "optim.lr=1e-2")
    execute(run, fit)
    ranks = export_run(run, "lora", tmp_path / "adapter", restore)
    assert set(ranks.values()) == {4}
    base = materialize(run.model)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve())
    expected = restore(run).eval()(IDS).logits
    assert (expected - load_model(base).eval()(IDS).logits).abs().max() > 1e-4
    found = with_adapter(base, tmp_path / "adapter")(IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_hub_base_is_named_by_its_id(heads_run, base, tmp_path):
    from alps.models.export import _origin

    hub = replace(heads_run, model=Model(hub="org/name", revision="v1"))
    found = _origin(hub, base)
    assert found == {"base_model_name_or_path": "org/name", "revision": "v1"}


def test_the_command(alps, heads_run, make_run, tmp_path):
    whole = make_run("method=no_attn")
    execute(whole, fit)
    before = sorted(p.name for p in tmp_path.iterdir())

    def refused(*arguments: str) -> str:
        done = alps("export", *arguments, check=2)
        assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert sorted(p.name for p in tmp_path.iterdir()) == before
        return done.stderr

    run = f"run={heads_run.key}"
    assert "did you mean 'rows'?" in refused(run, "format=row", "to=out")
    assert "use format=hf" in refused(f"run={whole.key}", "format=rows", "to=out")
    assert "use format=hf" in refused(f"run={whole.key}", "format=lora", "to=out")
    assert "exists already" in refused(run, "format=rows", "to=outputs")
    done = alps("export", run, "format=lora", "to=out", check=0)
    assert f"{heads_run.key} is in out; largest rank " in done.stdout
    assert "Traceback" not in done.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip


def with_chat_ends(folder: Path, eos: int | list[int] | None) -> Path:
    """A base whose tokenizer has `<|end|>` and an end-of-text token, and no padding token."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, "vocab_size": len(tokenizer)}))
    model.config.eos_token_id = model.generation_config.eos_token_id = eos
    model.generation_config.pad_token_id = None
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, 1),
        (1, 1),
        ("<|end|>", [1, "<|end|>"]),
        (["<|end|>", 1], [1, "<|end|>"]),
        (["A", "<|end|>"], [1, "<|end|>"]),
    ],
)
def test_an_export_stops_where_the_training_taught_it_to(tmp_path, named, expected):
    """The base's other ends stay, but for ordinary tokens: configs have 2 by default."""
    ids = byte_tokenizer()
    ids.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    number = lambda t: t if isinstance(t, int) else ids.convert_tokens_to_ids(t)  # noqa: E731
    of = lambda n: [*map(number, n)] if isinstance(n, list) else n and number(n)  # noqa: E731
    base = with_chat_ends(tmp_path / "base", of(named))
    tokenizer = load_tokenizer(base)
    assert tokenizer.eos_token_id == 1 and pad_id(tokenizer) == 1
    export_model(load_model(base), tokenizer, tmp_path / "plain")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "plain" / name).read_text())["eos_token_id"] == of(expected)


def test_generation_settings_of_the_base_that_contradict_each_other_are_exported_as_they_are(
    tmp_path,
):
    """Published configs have them; transformers saves those back only as long as none changes."""
    base = with_chat_ends(tmp_path / "base", 1)
    published = {"temperature": 0.6, "top_p": 0.9, "do_sample": False}
    path = base / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **published, "eos_token_id": 100}))
    export_model(load_model(base), load_tokenizer(base), tmp_path / "plain")
    found = json.loads((tmp_path / "plain" / path.name).read_text())
    assert found["temperature"] == 0.6 and found["top_p"] == 0.9
    assert found["eos_token_id"] == 1


def test_a_padding_token_that_the_base_has_not_is_not_exported(tmp_path):
    base = with_chat_ends(tmp_path / "base", 1)
    export_model(load_model(base), load_tokenizer(base), tmp_path / "plain")
    for file in (tmp_path / "plain").glob("*.json"):
        if file.name != "tokenizer.json":  # which has the token "<pad>", as the base has
            content = json.loads(file.read_text())
            assert content.get("pad_token") is content.get("pad_token_id") is None, file
    assert load_tokenizer(tmp_path / "plain").pad_token is None


def test_an_evaluation_leaves_no_trace_in_an_export(tmp_path):
    from alps.evals.engine.hf import HFEngine

    base = with_chat_ends(tmp_path / "base", 1)
    model, tokenizer = load_model(base).eval(), load_tokenizer(base)
    model.generation_config.repetition_penalty = 1.3
    export_model(model, tokenizer, tmp_path / "before")
    engine = HFEngine(model, tokenizer, 2, "chat")
    settings = {"until": [], "max_gen_toks": 3}
    engine.generate_until([Instance("generate_until", {}, ("Why?", settings), 0)])
    export_model(model, tokenizer, tmp_path / "after")
    before, after = (
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
        for name in ("before", "after")
    )
    assert before == after and b"1.3" in after["generation_config.json"]


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_the_exported_config_has_the_dtype_of_the_file(tmp_path, stored):
    """Weights are float32, whatever the base was stored in."""
    base = with_chat_ends(tmp_path / "base", 1)
    load_model(base, stored).save_pretrained(base)
    assert {t.dtype for t in load_file(base / "model.safetensors").values()} == {stored}
    export_model(load_model(base), load_tokenizer(base), tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    dtypes = {t.dtype for t in load_file(tmp_path / "plain" / "model.safetensors").values()}
    assert dtypes == {torch.float32} and config["dtype"] == "float32"
