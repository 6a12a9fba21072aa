import copy
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.models.apply import apply, merge
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize
from alps.models.head_linear import HeadLinear
from alps.models.load import load_model
from alps.models.rows import TensorRows, TrainedRows, base_rows, rows_of
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
    model = apply(load_model(base), TrainingPlan(qkv="heads", rest=False, heads=chosen))
    model(torch.tensor([[1, 2, 3]]))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("rows"):
                parameter += 0.1 * torch.randn_like(parameter)
    model(torch.tensor([[1, 2, 3]]))
    return model


def assert_same_rows(one: TrainedRows, other: TrainedRows) -> None:
    assert (one.base_hash, one.geometry) == (other.base_hash, other.geometry)
    assert one.parts.keys() == other.parts.keys()
    for name, part in one.parts.items():
        assert torch.equal(part.indices, other.parts[name].indices), name
        assert torch.equal(
            part.values.view(torch.int32), other.parts[name].values.view(torch.int32)
        )


def test_a_file_of_rows_holds_plain_names_numbers_and_facts(llama, tmp_path):
    rows = rows_of(trained(llama), "abc")
    rows.write(tmp_path / "heads.safetensors")
    assert_same_rows(TrainedRows.read(tmp_path / "heads.safetensors"), rows)
    assert_same_rows(TrainedRows.read(tmp_path), rows)
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
    assert torch.equal(rows.parts[QUERY.format(0)].values, layer.rows)
    with torch.no_grad():
        layer.rows += 1
    assert not torch.equal(rows.parts[QUERY.format(0)].values, layer.rows)


def test_a_plain_model_has_no_rows(llama):
    with pytest.raises(ValueError, match="no trained rows"):
        rows_of(load_model(llama))


def test_rows_of_the_base_are_those_it_had_before(base):
    rows, start = rows_of(trained(base)), load_model(base).state_dict()
    values = base_rows(rows, base)
    assert values.keys() == rows.parts.keys()
    for name, part in rows.parts.items():
        assert torch.equal(values[name], start[name][part.indices])
        assert not torch.equal(values[name], part.values)


def test_a_base_of_another_shape_is_refused(base):
    rows = rows_of(trained(base))
    g = rows.geometry
    other = Geometry(num_layers=3, num_heads=8, num_kv_heads=2, head_dim=g.head_dim)
    with pytest.raises(ValueError, match=r"rows are of 3 layers .* the model has 2 layers"):
        base_rows(TrainedRows(parts=rows.parts, geometry=other), base)
    last = list(rows.parts)[-1]
    narrow = TensorRows(rows.parts[last].indices, rows.parts[last].values[:, :-1])
    with pytest.raises(ValueError, match=f"{last} has shape"):
        base_rows(TrainedRows(parts={**rows.parts, last: narrow}, geometry=g), base)


def test_a_base_without_the_biases_is_refused(llama):
    rows = rows_of(trained(llama))
    name = "model.layers.0.self_attn.k_proj.bias"
    bias = TensorRows(torch.tensor([1]), torch.ones(1))
    with pytest.raises(ValueError, match=f"{re.escape(name)} is missing in the base"):
        base_rows(TrainedRows(parts={**rows.parts, name: bias}, geometry=rows.geometry), llama)


def test_trained_biases_go_along(tmp_path):
    start = one_layer()
    start.save_pretrained(tmp_path / "base")
    model = copy.deepcopy(start)
    attention = model.model.layers[0].self_attn
    attention.k_proj = HeadLinear(attention.k_proj, [4, 5, 6, 7], train_bias=True)
    with torch.no_grad():
        attention.k_proj.row_bias += 1
    rows, name = rows_of(model), "model.layers.0.self_attn.k_proj.bias"
    bias = start.model.layers[0].self_attn.k_proj.bias[4:]
    assert torch.equal(rows.parts[name].values, bias + 1)
    assert torch.equal(base_rows(rows, tmp_path / "base")[name], bias)


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
    part = TensorRows(torch.tensor(numbers, dtype=torch.long), torch.zeros(shape))
    geometry = Geometry(num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4)
    with pytest.raises(ValueError, match=message):
        TrainedRows(parts={name: part}, geometry=geometry)


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        TrainedRows(
            parts={}, geometry=Geometry(num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4)
        )


def test_bad_files_are_one_sentence(llama, tmp_path):
    path = tmp_path / "heads.safetensors"
    with pytest.raises(ValueError, match="cannot be read as a file of rows"):
        TrainedRows.read(path)
    rows = rows_of(trained(llama))
    rows.write(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="cannot be read as a file of rows"):
        TrainedRows.read(path)
    save_file({"x.rows": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="no file of rows of format 1"):
        TrainedRows.read(path)
    facts = {"format_version": "1", "geometry": "{}"}
    save_file({"x.rows": torch.zeros(1)}, path, facts)
    with pytest.raises(ValueError, match="is no set of rows"):
        TrainedRows.read(path)


def test_a_run_of_heads_only_leaves_its_rows(make_run):
    run = make_run("method=random", "scope=heads_only", "ratio=0.2")
    fit_in_folder(run)
    folder = RunFolder(run.folder)
    rows = TrainedRows.read(folder.weights_path.parent)
    assert rows.base_hash == run.model.fingerprint()
    assert_same_rows(rows, rows_of(restore(run), run.model.fingerprint()))
    merged = merge(restore(run)).state_dict()
    for name, part in rows.parts.items():
        assert torch.equal(merged[name][part.indices], part.values)
    whole = make_run("method=random", "scope=rest_trains", "ratio=0.2")
    fit_in_folder(whole)
    assert [p.name for p in RunFolder(whole.folder).weights_path.parent.iterdir()] == [
        "trained.safetensors"
    ]


def fit_in_folder(run) -> None:
    from alps.execute import execute

    execute(run, fit)
