import json
import re
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from alps.heads.geometry import Geometry
from alps.models.architecture import qkv_names
from alps.models.qkv import INDEX, KVGroup, QKVCheckpoint

GEOMETRY = Geometry(num_layers=2, num_heads=4, num_kv_heads=2, head_dim=3)
WIDTH = 10


def weights(biases: bool = False, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Every number is different, so that a row in the wrong place shows."""
    tensors, count = {}, 0
    for layer in range(2):
        for name, rows in zip(qkv_names(layer), (12, 6, 6), strict=True):
            tensors[name] = torch.arange(count, count + rows * WIDTH).reshape(rows, WIDTH).to(dtype)
            count += rows * WIDTH
            if biases:
                tensors[name.replace("weight", "bias")] = -torch.arange(count, count + rows).to(
                    dtype
                )
                count += rows
    return tensors


def save(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def sharded(tensors: dict[str, torch.Tensor], folder: Path, count: int = 3) -> Path:
    """Neighbouring tensors lie in different files."""
    shards: dict[str, dict[str, torch.Tensor]] = {}
    for i, (name, tensor) in enumerate(tensors.items()):
        shards.setdefault(f"part-{i % count}.safetensors", {})[name] = tensor
    for shard, held in shards.items():
        save(held, folder / shard)
    where = {name: shard for shard, held in shards.items() for name in held}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def same(a: KVGroup, b: KVGroup) -> bool:
    pairs = zip(a.weights + (a.biases or ()), b.weights + (b.biases or ()), strict=True)
    return all(torch.equal(x, y) and x.dtype == y.dtype for x, y in pairs)


def qkv(place: Path) -> QKVCheckpoint:
    return QKVCheckpoint(place, GEOMETRY)


def refusal(place: Path, geometry: Geometry = GEOMETRY) -> str:
    """What `check`, or else reading everything, says."""
    with pytest.raises(ValueError) as error:
        checkpoint = QKVCheckpoint(place, geometry)
        checkpoint.check()
        for layer in range(2):
            for group in range(2):
                checkpoint.group(layer, group)
    text = str(error.value)
    assert "\n" not in text and type(error.value) is ValueError
    return text


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("group", [0, 1])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_group_is_the_rows_of_its_heads(tmp_path, layer, group, biases):
    tensors = weights(biases)
    found = qkv(save(tensors, tmp_path / "a.safetensors")).group(layer, group)
    rows = (slice(6 * group, 6 * group + 6), *[slice(3 * group, 3 * group + 3)] * 2)
    for weight, name, own in zip(found.weights, qkv_names(layer), rows, strict=True):
        assert torch.equal(weight, tensors[name][own])
    assert (found.biases is not None) == biases
    if found.biases:
        for bias, name, own in zip(found.biases, qkv_names(layer), rows, strict=True):
            assert torch.equal(bias, tensors[name.replace("weight", "bias")][own])


@pytest.mark.parametrize("biases", [False, True])
def test_a_file_a_folder_and_shards_read_the_same(tmp_path, biases):
    tensors = weights(biases)
    file = save(tensors, tmp_path / "folder" / "model.safetensors")
    halves = tmp_path / "halves"  # several files and no index
    names = list(tensors)
    save({n: tensors[n] for n in names[::2]}, halves / "a.safetensors")
    save({n: tensors[n] for n in names[1::2]}, halves / "b.safetensors")
    places = [file, file.parent, halves, sharded(tensors, tmp_path / "shards")]
    for checkpoint in map(qkv, places):
        checkpoint.check()
        assert (checkpoint.width, checkpoint.has_biases) == (WIDTH, biases)
        for layer in range(2):
            for group in range(2):
                assert same(checkpoint.group(layer, group), qkv(file).group(layer, group))


@pytest.mark.parametrize("name", ["F64", "F32", "F16", "BF16"])
def test_weights_come_as_they_are_stored(tmp_path, name):
    dtype = {"F64": torch.float64, "F32": torch.float32, "F16": torch.half, "BF16": torch.bfloat16}
    checkpoint = qkv(save(weights(dtype=dtype[name]), tmp_path / "a.safetensors"))
    checkpoint.check()
    assert checkpoint.dtype == name
    assert {w.dtype for w in checkpoint.group(1, 1).weights} == {dtype[name]}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float8_e4m3fn])
def test_quantized_weights_are_no_weights(tmp_path, dtype):
    """Integers have finite values, too: their codes would be scored as if they were weights."""
    tensors = weights()
    name = "model.layers.1.self_attn.k_proj.weight"
    tensors[name] = torch.ones(6, WIDTH).to(dtype)
    text = refusal(save(tensors, tmp_path / "a.safetensors"))
    assert name in text and "before quantization" in text


def test_packed_weights_are_refused(tmp_path):
    tensors = {n: torch.ones(t.numel() // 2, 1, dtype=torch.uint8) for n, t in weights().items()}
    assert "stored as U8" in refusal(save(tensors, tmp_path / "a.safetensors"))


def test_a_single_file_goes_before_an_index_as_transformers_reads_it(tmp_path):
    sharded({n: 0 * t for n, t in weights().items()}, tmp_path / "m")
    file = save(weights(), tmp_path / "m" / "model.safetensors")
    assert same(qkv(tmp_path / "m").group(0, 1), qkv(file).group(0, 1))


def test_other_tensors_of_a_layer_are_not_read(tmp_path):
    tensors = weights()
    expected = qkv(save(tensors, tmp_path / "a.safetensors")).group(0, 0)
    others = ("model.layers.0.self_attn.q_norm.weight", "lm_head.weight")
    more = {name: torch.full((3,), float("nan")) for name in others}
    found = qkv(save({**tensors, **more}, tmp_path / "b.safetensors"))
    found.check()
    assert not found.has_biases and same(found.group(0, 0), expected)


def test_nothing_is_read_where_there_is_nothing(tmp_path):
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'} does not exist"
    assert refusal(tmp_path) == f"{tmp_path} holds no safetensors file"


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", b"\xff" * 64])
def test_a_foreign_file_is_one_sentence(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    for place in (tmp_path, tmp_path / "model.safetensors"):
        assert "model.safetensors is no readable safetensors file (" in refusal(place)


@pytest.mark.parametrize("left", [0.99, 0.5, 0.01])
@pytest.mark.parametrize("in_shards", [False, True])
def test_a_truncated_file_is_one_sentence(tmp_path, left, in_shards):
    place = sharded(weights(), tmp_path / "m") if in_shards else tmp_path / "m"
    if not in_shards:
        save(weights(), place / "model.safetensors")
    path = sorted(place.glob("*.safetensors"))[-1]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole))])
    assert f"{path} is no readable safetensors file (" in refusal(place)


def test_a_header_that_lies_about_its_length_is_one_sentence(tmp_path):
    path = save(weights(), tmp_path / "model.safetensors")
    path.write_bytes(struct.pack("<Q", 2**50) + path.read_bytes()[8:])
    assert "no readable safetensors file" in refusal(path)


@pytest.mark.parametrize("in_shards", [False, True])
@pytest.mark.parametrize("projection", ["q", "k", "v"])
def test_a_missing_tensor_is_named(tmp_path, projection, in_shards):
    tensors = weights()
    name = f"model.layers.1.self_attn.{projection}_proj.weight"
    del tensors[name]
    place = tmp_path / "m"
    sharded(tensors, place) if in_shards else save(tensors, place / "model.safetensors")
    assert refusal(place).startswith(
        f"{place} has no tensor {name}: it is no checkpoint of 2 layer"
    )


def test_a_missing_bias_is_named(tmp_path):
    tensors = weights(biases=True)
    del tensors["model.layers.1.self_attn.k_proj.bias"]
    text = refusal(save(tensors, tmp_path / "a.safetensors"))
    assert "has no tensor model.layers.1.self_attn.k_proj.bias" in text


def test_an_absent_shard_is_named(tmp_path):
    place = sharded(weights(), tmp_path)
    (place / "part-1.safetensors").unlink()
    expected = f"{place} lacks part-1.safetensors, which its index names: the copy is incomplete"
    assert refusal(place) == expected


def test_an_index_that_names_the_wrong_shard_is_one_sentence(tmp_path):
    place = sharded(weights(), tmp_path)
    index = json.loads((place / INDEX).read_text())
    name = "model.layers.0.self_attn.v_proj.weight"
    index["weight_map"][name] = "part-0.safetensors"
    (place / INDEX).write_text(json.dumps(index))
    assert refusal(place).startswith(f"{name} in {place} cannot be read (")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"weight_map": []}', '{"weight_map": null}', "\x00\x01"],
)
def test_a_damaged_index_is_one_sentence(tmp_path, content):
    place = sharded(weights(), tmp_path)
    (place / INDEX).write_text(content)
    assert refusal(place).startswith(f"{place / INDEX} is damaged (")


@pytest.mark.parametrize("value", [3, None, ["part-0.safetensors"]])
def test_an_index_that_maps_to_no_names_is_one_sentence(tmp_path, value):
    place = sharded(weights(), tmp_path)
    (place / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(weights(), value)}))
    assert "its index names" in refusal(place) or "is damaged" in refusal(place)


@pytest.mark.parametrize(
    ("projection", "shape"),
    [
        ("q", (14, WIDTH)), ("q", (9, WIDTH)), ("k", (12, WIDTH)), ("v", (3, WIDTH)),
        ("v", (6, WIDTH + 1)), ("k", (6, WIDTH - 1)), ("k", (6 * WIDTH,)), ("k", (6, WIDTH, 1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layer", [0, 1])
def test_another_shape_is_refused_by_name(tmp_path, layer, projection, shape):
    name = f"model.layers.{layer}.self_attn.{projection}_proj.weight"
    text = refusal(save({**weights(), name: torch.ones(shape)}, tmp_path / "a.safetensors"))
    assert text.startswith(f"{name} in ") and f"has shape {list(shape)}, not " in text


def test_a_first_tensor_without_columns_is_refused_by_name(tmp_path):
    name = qkv_names(0)[0]
    text = refusal(save({**weights(), name: torch.ones(12)}, tmp_path / "a.safetensors"))
    assert name in text and "has shape [12]" in text


@pytest.mark.parametrize("rows", [3, 7])
def test_a_bias_of_another_length_is_refused_by_name(tmp_path, rows):
    name = "model.layers.1.self_attn.v_proj.bias"
    tensors = {**weights(biases=True), name: torch.ones(rows)}
    text = refusal(save(tensors, tmp_path / "a.safetensors"))
    assert text.startswith(f"{name} in ") and f"has shape [{rows}], not [6]" in text


@pytest.mark.parametrize("kind", ["weight", "bias"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path, dtype, bad, kind):
    tensors = {n: t / 1000 for n, t in weights(biases=True, dtype=dtype).items()}
    name = f"model.layers.1.self_attn.k_proj.{kind}"
    tensors[name][-1] = bad
    text = refusal(save(tensors, tmp_path / "a.safetensors"))
    assert text == f"{name} in {tmp_path / 'a.safetensors'} holds NaN or infinite values"


def test_plus_and_minus_infinity_do_not_cancel(tmp_path):
    tensors = weights()
    tensors[qkv_names(0)[2]][0, :2] = torch.tensor([float("inf"), -float("inf")])
    assert "NaN or infinite" in refusal(save(tensors, tmp_path / "a.safetensors"))


def test_a_finite_tensor_whose_sum_overflows_is_read(tmp_path):
    tensors = {n: torch.full_like(t, 65_000.0) for n, t in weights(dtype=torch.float16).items()}
    group = qkv(save(tensors, tmp_path / "a.safetensors")).group(0, 0)
    assert torch.isinf(group.weights[0].sum()) and (group.weights[0] == 65_000).all()


@pytest.fixture
def model() -> LlamaForCausalLM:
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=8, hidden_size=12, intermediate_size=8, **shape)
    return LlamaForCausalLM(config)


def test_a_folder_of_pickles_names_them_and_a_command_that_converts_them(tmp_path, model):
    folder = tmp_path / "old model"
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    expected = {n: t for n, t in model.state_dict().items() if n in qkv_names(0)}
    text = refusal(folder / "pytorch_model.bin")
    assert text.startswith(f"{folder / 'pytorch_model.bin'} is no safetensors")
    code = text.partition("; convert it: ")[2]
    text = refusal(folder)
    assert text.startswith(f"{folder} holds pytorch_model.bin but no safetensors")
    assert text.endswith(code)
    code = re.search(r'python -c "(.*)"', text)[1]
    exec(code)  # what the user would run
    converted = Path(f"{folder}-safetensors")
    found = load_file(converted / "model.safetensors")
    assert all(torch.equal(found[n], t) for n, t in expected.items())
    QKVCheckpoint(
        converted, Geometry(num_layers=2, num_heads=4, num_kv_heads=2, head_dim=3)
    ).check()


@pytest.mark.parametrize("as_file", [False, True])
def test_a_gguf_names_the_file_in_the_command_too(tmp_path, as_file):
    """`from_pretrained` does not find a GGUF file by itself."""
    (tmp_path / "model-q4.gguf").write_bytes(b"GGUF")
    text = refusal(tmp_path / "model-q4.gguf" if as_file else tmp_path)
    assert text.startswith(f"{tmp_path}{'/' if as_file else ' holds '}model-q4.gguf ")
    assert f"M.from_pretrained('{tmp_path}', gguf_file='model-q4.gguf')" in text


def test_many_foreign_files_are_not_all_listed(tmp_path):
    for i in range(5):
        (tmp_path / f"pytorch_model-{i}.bin").write_bytes(b"")
    assert "holds pytorch_model-0.bin, pytorch_model-1.bin, pytorch_model-2.bin but" in refusal(
        tmp_path
    )


def test_a_file_of_another_kind_is_not_called_a_model(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    save(weights(), tmp_path / "model.safetensors")
    text = refusal(tmp_path / "notes.txt")
    assert text.startswith(f"{tmp_path / 'notes.txt'} is no safetensors")
    assert "python -c" not in text


def test_a_format_that_transformers_does_not_load_comes_without_a_command(tmp_path):
    (tmp_path / "consolidated.00.pth").write_bytes(b"")
    text = refusal(tmp_path)
    assert text.startswith(f"{tmp_path} holds consolidated.00.pth but no safetensors")
    assert "python -c" not in text
