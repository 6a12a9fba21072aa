import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from alps.base.hashing import folder_hash
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.models import apply as application
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize
from alps.models.head_linear import HeadLinear
from alps.models.load import load_model
from alps.models.rows import Part, Rows, base_rows, compose, diff, merge, rows_of, unmerge
from alps.models.training_plan import TrainingPlan
from alps.runs.folder import RunFolder
from alps.training.fit import fit
from alps.training.restore import restore

QUERY = "model.layers.{}.self_attn.q_proj.weight"
HEADS = ((0, 1), (0, 2), (1, 7))


@pytest.fixture(params=["llama", "qwen2"])
def base(request, make_run, tmp_path) -> Path:
    """Without biases, and with biases of q, k and v."""
    if request.param == "llama":
        return materialize(make_run().model)
    config = Qwen2Config(
        vocab_size=48, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=8, num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "qwen2")
    return tmp_path / "qwen2"


@pytest.fixture
def llama(make_run) -> Path:
    return materialize(make_run().model)


def one_layer() -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def trained(base: Path, heads=HEADS, seed: int = 1) -> nn.Module:
    """A model whose rows moved by chance, and that saw a forward pass before and after."""
    chosen = HeadSet(heads=heads, geometry=read_geometry(base))
    model = application.apply(load_model(base), TrainingPlan(qkv="heads", rest=False, heads=chosen))
    model(torch.tensor([[1, 2, 3]]))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("rows"):
                parameter += 0.1 * torch.randn_like(parameter)
    model(torch.tensor([[1, 2, 3]]))
    return model


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor.view(torch.uint8), theirs[name].view(torch.uint8)), name


def assert_same_rows(one: Rows, other: Rows) -> None:
    assert (one.base_hash, one.geometry) == (other.base_hash, other.geometry)
    assert one.parts.keys() == other.parts.keys()
    for name, part in one.parts.items():
        assert torch.equal(part.numbers, other.parts[name].numbers), name
        assert torch.equal(part.rows.view(torch.int32), other.parts[name].rows.view(torch.int32))


def test_a_file_of_rows_holds_plain_names_numbers_and_facts(llama, tmp_path):
    rows = rows_of(trained(llama), "abc")
    rows.write(tmp_path / "heads.safetensors")
    assert_same_rows(Rows.read(tmp_path / "heads.safetensors"), rows)
    assert_same_rows(Rows.read(tmp_path), rows)
    found = load_file(tmp_path / "heads.safetensors")
    assert len(found) == 12
    name = QUERY.format(0)
    assert found[f"{name}.index"].dtype == torch.int64
    assert found[f"{name}.index"].tolist() == list(range(8, 24))
    assert found[f"{name}.rows"].dtype == torch.float32
    with safe_open(tmp_path / "heads.safetensors", "pt") as file:
        facts = file.metadata()
    assert facts["base_hash"] == "abc" and facts["format_version"] == "1"
    assert json.loads(facts["geometry"])["num_heads"] == 8


def test_rows_are_those_that_train_and_no_view_of_them(llama):
    model = trained(llama)
    rows = rows_of(model)
    layer = model.model.layers[0].self_attn.q_proj
    assert torch.equal(rows.parts[QUERY.format(0)].rows, layer.rows)
    with torch.no_grad():
        layer.rows += 1
    assert not torch.equal(rows.parts[QUERY.format(0)].rows, layer.rows)


def test_a_plain_model_has_no_rows(llama):
    with pytest.raises(ValueError, match="no trained rows"):
        rows_of(load_model(llama))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merge_and_unmerge_are_exact(base, dtype):
    model, rows = load_model(base, dtype), rows_of(trained(base))
    merge(model, rows)
    expected = application.merge(trained(base)).to(dtype)
    assert_same_bits(model, expected)
    merged = copy.deepcopy(model)
    unmerge(model, rows, base)
    assert_same_bits(model, load_model(base, dtype))
    unmerge(merged, rows, load_model(base))
    assert_same_bits(merged, load_model(base, dtype))
    merge(model, rows)  # and again
    assert_same_bits(model, expected)


def test_only_once_and_only_what_was_merged(llama):
    rows, others = rows_of(trained(llama)), rows_of(trained(llama, heads=((1, 0),)))
    model = load_model(llama)
    with pytest.raises(ValueError, match="no rows were merged"):
        unmerge(model, rows, llama)
    merge(model, rows)
    after = copy.deepcopy(model)
    with pytest.raises(ValueError, match="merged into this model already"):
        merge(model, others)
    with pytest.raises(ValueError, match="other rows were merged"):
        unmerge(model, others, llama)
    with pytest.raises(ValueError, match="merged into this base"):
        base_rows(others, model)
    assert_same_bits(model, after)


def test_another_base_is_refused(llama):
    model, rows = load_model(llama), rows_of(trained(llama), "this base")
    with pytest.raises(ValueError, match="belong to the base this base, not to that base"):
        merge(model, rows, base_hash="that base")
    assert_same_bits(model, load_model(llama))
    assert_same_bits(merge(model, rows, "this base"), application.merge(trained(llama)))


def test_another_shape_is_refused_before_anything_is_written(base):
    rows = rows_of(trained(base))
    g = rows.geometry
    other = Geometry(num_layers=3, num_heads=8, num_kv_heads=2, head_dim=g.head_dim)
    model = load_model(base)
    with pytest.raises(ValueError, match=r"rows are of 3 layers .* the model has 2 layers"):
        merge(model, Rows(parts=rows.parts, geometry=other))
    last = list(rows.parts)[-1]
    narrow = Part(rows.parts[last].numbers, rows.parts[last].rows[:, :-1])
    with pytest.raises(ValueError, match=f"{last} has shape"):
        merge(model, Rows(parts={**rows.parts, last: narrow}, geometry=g))
    assert_same_bits(model, load_model(base))
    merge(model, rows)
    small = copy.deepcopy(rows.parts)
    small[last] = narrow
    with pytest.raises(ValueError, match=f"{last} has shape"):
        base_rows(Rows(parts=small, geometry=g), base)


def test_models_that_are_not_plain_are_refused(llama):
    rows = rows_of(trained(llama))
    with pytest.raises(ValueError, match=r"q_proj is a HeadLinear, not a plain linear layer"):
        merge(trained(llama), rows)
    with pytest.raises(ValueError, match=r"q_proj is a HeadLinear"):
        diff(llama, trained(llama))
    fused = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=8, n_embd=64, vocab_size=8))
    parts = {QUERY.format(0): rows.parts[QUERY.format(0)]}
    geometry = Geometry(num_layers=2, num_heads=8, num_kv_heads=8, head_dim=8)
    with pytest.raises(ValueError, match=r"the model has no model\.layers\.0\.self_attn\.q_proj"):
        merge(fused, Rows(parts=parts, geometry=geometry))
    quantized = load_model(llama)
    layer = quantized.model.layers[0].self_attn.q_proj
    layer.weight = nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match="not a plain linear layer"):
        merge(quantized, rows)


def test_trained_biases_go_along(tmp_path):
    start = one_layer()
    start.save_pretrained(tmp_path / "base")
    model = copy.deepcopy(start)
    attention = model.model.layers[0].self_attn
    attention.k_proj = HeadLinear(attention.k_proj, [4, 5, 6, 7], train_bias=True)
    with torch.no_grad():
        attention.k_proj.row_bias += 1
    rows = rows_of(model)
    assert rows.parts["model.layers.0.self_attn.k_proj.bias"].rows.shape == (4,)
    found = merge(copy.deepcopy(start), rows)
    assert_same_bits(found, application.merge(model))
    assert_same_bits(unmerge(found, rows, tmp_path / "base"), start)


@pytest.mark.parametrize("shard", [None, "20KB"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_diff_finds_exactly_the_rows_that_moved(base, tmp_path, shard, in_memory):
    rows = rows_of(trained(base), folder_hash(base))
    changed = application.merge(trained(base))
    if not in_memory:
        options = {"max_shard_size": shard} if shard else {}
        changed.save_pretrained(tmp_path / "changed", **options)
        assert bool(shard) == (tmp_path / "changed" / "model.safetensors.index.json").exists()
        changed = tmp_path / "changed"
    assert_same_rows(diff(base, changed), rows)
    assert diff(load_model(base), changed).base_hash is None
    assert diff(load_model(base), changed, "known").base_hash == "known"


def test_diff_sees_biases_and_signs_of_zero(tmp_path):
    start = one_layer()
    nn.init.zeros_(start.model.layers[0].self_attn.v_proj.bias)
    changed = copy.deepcopy(start)
    with torch.no_grad():
        changed.model.layers[0].self_attn.v_proj.bias[3] = -0.0
    rows = diff(start, changed)
    ((name, part),) = rows.parts.items()
    assert name == "model.layers.0.self_attn.v_proj.bias" and part.numbers.tolist() == [3]
    assert_same_bits(merge(copy.deepcopy(start), rows), changed)


def test_diff_needs_two_models_of_one_shape_that_differ(llama, tmp_path):
    with pytest.raises(ValueError, match="the same q, k and v"):
        diff(llama, llama)
    with pytest.raises(
        ValueError, match=r"base has 2 layers of 8/2 .*, the changed model 1 layers"
    ):
        diff(llama, one_layer())
    (weights,) = llama.glob("*.safetensors")
    with pytest.raises(ValueError, match=r"has a config\.json"):
        diff(weights, weights)
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="has no tensor"):
        diff(llama, tmp_path / "other.safetensors")


def test_compose_is_the_union(llama):
    one, two = trained(llama, ((0, 1),)), trained(llama, ((0, 5), (1, 7)), seed=2)
    first = rows_of(one, "b")
    together = compose(first, diff(llama, application.merge(two), "b"))
    assert together.base_hash == "b"
    found = merge(load_model(llama), together).state_dict()
    ones, twos = application.merge(one).state_dict(), application.merge(two).state_dict()
    assert torch.equal(found[QUERY.format(0)][8:16], ones[QUERY.format(0)][8:16])
    assert torch.equal(found[QUERY.format(0)][40:48], twos[QUERY.format(0)][40:48])
    assert torch.equal(found[QUERY.format(1)], twos[QUERY.format(1)])
    same_group = trained(llama, ((0, 2),), seed=2)
    with pytest.raises(ValueError, match=r"row 0 of .*k_proj.weight has different values"):
        compose(first, rows_of(same_group, "b"))


def small(numbers: list[int], values: list[float], base_hash: str = "b") -> Rows:
    part = Part(torch.tensor(numbers), torch.tensor(values)[:, None].expand(-1, 3))
    geometry = Geometry(num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4)
    return Rows(parts={QUERY.format(0): part}, geometry=geometry, base_hash=base_hash)


def test_shared_rows_must_be_the_same():
    together = compose(small([1, 5], [1.0, 5.0]), small([0, 5], [0.0, 5.0]), small([5], [5.0]))
    part = together.parts[QUERY.format(0)]
    assert part.numbers.tolist() == [0, 1, 5] and part.rows[:, 0].tolist() == [0.0, 1.0, 5.0]
    with pytest.raises(ValueError, match=r"row 5 of .*q_proj.weight has different values"):
        compose(small([1, 5, 6], [1.0, 5.0, 0.0]), small([5, 6], [5.5, 1.0]))
    with pytest.raises(ValueError, match="different bases cannot be composed: b and c"):
        compose(small([1], [1.0]), small([2], [1.0], "c"))
    with pytest.raises(ValueError, match="at least one"):
        compose()


@pytest.mark.parametrize(
    ("name", "numbers", "width", "message"),
    [
        (QUERY.format(0), [], 3, "must ascend from 0 to 7"),
        (QUERY.format(0), [8], 3, "must ascend"),
        (QUERY.format(0), [-1], 3, "must ascend"),
        (QUERY.format(0), [2, 1], 3, "must ascend"),
        (QUERY.format(0), [1, 1], 3, "must ascend"),
        (QUERY.format(0), [1], None, "another shape than their numbers"),
        (QUERY.format(1), [1], 3, "is no q, k or v of 1 layers of 2/1 heads"),
        ("model.layers.0.mlp.up_proj.weight", [1], 3, "is no q, k or v"),
    ],
)
def test_rows_that_make_no_sense_are_refused(name, numbers, width, message):
    shape = (len(numbers),) if width is None else (len(numbers), width)
    part = Part(torch.tensor(numbers, dtype=torch.long), torch.zeros(shape))
    geometry = Geometry(num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4)
    with pytest.raises(ValueError, match=message):
        Rows(parts={name: part}, geometry=geometry)


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        Rows(parts={}, geometry=Geometry(num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4))


def test_bad_files_are_one_sentence(llama, tmp_path):
    path = tmp_path / "heads.safetensors"
    with pytest.raises(ValueError, match="cannot be read as a file of rows"):
        Rows.read(path)
    rows = rows_of(trained(llama))
    rows.write(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="cannot be read as a file of rows"):
        Rows.read(path)
    save_file({"x.rows": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="no file of rows of format 1"):
        Rows.read(path)
    facts = {"format_version": "1", "geometry": "{}"}
    save_file({"x.rows": torch.zeros(1)}, path, facts)
    with pytest.raises(ValueError, match="is no set of rows"):
        Rows.read(path)


def test_a_run_of_heads_only_leaves_its_rows(make_run):
    run = make_run("method=random", "scope=heads_only", "ratio=0.2")
    fit_in_folder(run)
    folder = RunFolder(run.folder)
    rows = Rows.read(folder.weights_path.parent)
    assert rows.base_hash == run.model.fingerprint()
    assert_same_rows(rows, rows_of(restore(run), run.model.fingerprint()))
    base = materialize(run.model)
    assert_same_bits(merge(load_model(base), rows), application.merge(restore(run)))
    whole = make_run("method=random", "scope=rest_trains", "ratio=0.2")
    fit_in_folder(whole)
    assert [p.name for p in RunFolder(whole.folder).weights_path.parent.iterdir()] == [
        "trained.safetensors"
    ]


def fit_in_folder(run) -> None:
    from alps.execute import execute

    execute(run, fit)
