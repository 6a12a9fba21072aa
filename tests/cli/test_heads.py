import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

from alps.cli.localize import localize as run_localize
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.localization import cache as remember
from alps.localization.engine import localize
from alps.models.architecture import qkv_names
from alps.models.qkv import INDEX

CONFIG = {
    "model_type": "llama", "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "hidden_size": 12,
}  # fmt: skip
GEOMETRY = Geometry(num_layers=3, num_heads=6, num_kv_heads=2, head_dim=2)
NAME = "model.layers.1.self_attn.k_proj.weight"


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = {"q": 12, "k": 4, "v": 4}
    return {
        name: torch.randn(rows[name[-13]], 12, generator=generator)
        for layer in range(3)
        for name in qkv_names(layer)
    }


def save(folder: str, tensors: dict[str, torch.Tensor], **config) -> Path:
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    save_file(tensors, path / "model.safetensors")
    return path


@pytest.fixture(autouse=True)
def checkpoints() -> None:
    """Folders `base` and `task`, where a test works."""
    save("base", weights())
    noise = weights(1)
    save("task", {n: t + 0.01 * noise[n] for n, t in weights().items()})


def score(*settings: str) -> Path:
    """Runs `alps localize` on `base` and `task`; the folder it made."""
    run_localize(["base=base", "task=task", *settings])
    (folder,) = Path("outputs/scores").iterdir()
    return folder


def test_localize_leaves_scores_heads_and_a_picture_and_says_so(capsys):
    folder = score("ratio=0.25")
    expected = localize("base", "task").top(0.25)
    found = HeadSet.read(folder / "heads.json")
    assert (found.heads, found.scores) == (expected.heads, expected.scores)
    assert (found.metric, found.ratio, found.geometry) == ("pad", 0.25, GEOMETRY)
    assert found.provenance["base"] == "base" and found.provenance["task"] == "task"
    assert HeadSet.read(folder / "heads-pad.json") == found
    assert {p.name for p in folder.iterdir() if p.name[0] != "."} == {
        "scores.safetensors", "scores.json", "heads.json", "heads-pad.json", "heat_map-pad.png",
    }  # fmt: skip
    assert (folder / "heat_map-pad.png").read_bytes()[:4] == b"\x89PNG"
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("pad: 5 of 18 heads chosen (27.8 %)")
    assert lines[1] == "base → task" and lines[-1] == f"files: {folder}" and err == ""
    best = np.unravel_index(np.array(expected.scores).argmax(), (3, 6))
    (first,) = [line for line in lines if re.match(r"\s+1 [│|]", line)]
    assert [int(n) for n in re.findall(r"\d+", first)[1:3]] == list(best)


@pytest.mark.parametrize("setting", ["metric=pad,kl", "metric=[pad,kl]"])
def test_several_metrics_are_scored_and_compared_and_the_first_decides(capsys, setting):
    folder = score(setting, "ratio=0.2")
    assert set(load_numpy(folder / "scores.safetensors")) == {"pad", "kl"}
    for metric in ("pad", "kl"):
        values = localize("base", "task", metric).top(0.2)
        assert HeadSet.read(folder / f"heads-{metric}.json").heads == values.heads
    assert HeadSet.read(folder / "heads.json").metric == "pad"
    out = capsys.readouterr().out
    assert out.startswith("pad: 4 of 18") and "2 head sets of 3 layers x 6 heads" in out


def test_settings_reach_the_score():
    settings = {"matrix": "concat", "ground": "weights", "tau": 2.0}
    folder = score(*(f"{k}={v}" for k, v in settings.items()))
    table = load_numpy(folder / "scores.safetensors")["pad"]
    np.testing.assert_array_equal(table, localize("base", "task", **settings).values)
    about = HeadSet.read(folder / "heads.json").provenance
    assert about["matrix"] == "concat"
    assert about["options"] == {"tau": 2.0, "ground": "weights"}


def test_compat_authors_reaches_the_score():
    table = load_numpy(score("compat=authors", "metric=cosine") / "scores.safetensors")["cosine"]
    expected = localize("base", "task", "cosine", compat="authors").values
    np.testing.assert_array_equal(table, expected)


def test_the_second_time_nothing_is_scored_again(monkeypatch, capsys):
    first = score("ratio=0.2")
    monkeypatch.setattr(remember, "localize_metrics", None)
    again = score("ratio=0.5", "tau=1", "ground=index", "direction=base_task")
    assert again == first
    assert len(HeadSet.read(again / "heads.json").heads) == 9


def test_outputs_go_where_they_are_told():
    run_localize(["base=base", "task=task", "output_dir=other"])
    assert list(Path("other/scores").iterdir()) and not Path("outputs").exists()


def test_a_task_stored_too_coarsely_is_warned_about(caplog):
    near = {n: (t * (1 + 2**-10)).bfloat16() for n, t in weights().items()}
    save("task", near)
    with caplog.at_level(logging.WARNING):
        folder = score()
    assert "the task checkpoint is stored as BF16" in caplog.text
    assert "BF16" in HeadSet.read(folder / "heads.json").provenance["warning"]


def replaced(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**load_file("task/model.safetensors"), name: tensor}


def spoiled(value: float) -> dict[str, torch.Tensor]:
    tensors = load_file("task/model.safetensors")
    tensors[NAME][3, 5] = value
    return tensors


def without(name: str) -> dict[str, torch.Tensor]:
    return {n: t for n, t in load_file("task/model.safetensors").items() if n != name}


def cut(folder: str = "task") -> None:
    path = Path(folder, "model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])


def shards(weight_map: object) -> None:
    Path("task/model.safetensors").rename("task/part-0.safetensors")
    Path("task", INDEX).write_text(json.dumps({"weight_map": weight_map}))


def only(name: str) -> None:
    Path("task/model.safetensors").rename(Path("task", name))


def without_configs() -> None:
    for folder in ("base", "task"):
        Path(folder, "config.json").unlink()


BAD_CHECKPOINTS = {
    "other geometry": (
        lambda: save("task", weights(), num_key_value_heads=6),
        "base and task model differ in shape: base and task",
    ),
    "other width": (
        lambda: save("task", {n: torch.ones(len(t), 14) for n, t in weights().items()}),
        "base and task model differ in shape: base has width 12",
    ),
    "other rows": (
        lambda: save("task", replaced(NAME, torch.ones(6, 12))),
        f"{NAME} in task has shape [6, 12], not [4, 12]",
    ),
    "missing tensor": (lambda: save("task", without(NAME)), f"task has no tensor {NAME}"),
    "truncated task": (cut, "task/model.safetensors is no readable safetensors file"),
    "truncated base": (
        lambda: cut("base"),
        "base/model.safetensors is no readable safetensors file",
    ),
    "foreign file": (
        lambda: Path("task/model.safetensors").write_text("no tensors"),
        "task/model.safetensors is no readable safetensors file",
    ),
    "pickle": (
        lambda: only("pytorch_model.bin"),
        "task holds pytorch_model.bin but no safetensors, the one format that can be read in part; "
        'convert it: python -c "',
    ),
    "gguf": (
        lambda: only("model-q4.gguf"),
        "task holds model-q4.gguf but no safetensors, the one format that can be read in part; "
        'convert it: python -c "',
    ),
    "nothing in it": (
        lambda: Path("task/model.safetensors").unlink(),
        "task holds no safetensors file",
    ),
    "absent shard": (
        lambda: shards(dict.fromkeys(weights(), "part-1.safetensors")),
        "task lacks part-1.safetensors, which its index names",
    ),
    "damaged index": (lambda: shards([]), f"task/{INDEX} is damaged"),
    "NaN": (lambda: save("task", spoiled(np.nan)), f"{NAME} in task holds NaN or infinite values"),
    "infinity": (
        lambda: save("task", spoiled(-np.inf)),
        f"{NAME} in task holds NaN or infinite values",
    ),
    "NaN in the base": (
        lambda: save("base", spoiled(np.nan)),
        f"{NAME} in base holds NaN or infinite values",
    ),
    "identical": (
        lambda: save("task", weights()),
        "base and task model have identical attention weights",
    ),
    "no config": (without_configs, "neither base nor task has a config.json that tells"),
    "damaged config": (
        lambda: Path("task/config.json").write_text("{"),
        "task is not a model folder: it has no readable config.json",
    ),
    "unknown architecture": (
        lambda: save("task", weights(), model_type="mamba"),
        "task is a mamba model; supported architectures: llama",
    ),
    "fused projections": (
        lambda: save("task", weights(), model_type="gpt2"),
        "task is a gpt2 model, whose q, k and v are one fused matrix",
    ),
    "quantized": (
        lambda: save("task", replaced(NAME, torch.ones(4, 12, dtype=torch.int8))),
        f"{NAME} in task is stored as I8",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD_CHECKPOINTS.values(), ids=BAD_CHECKPOINTS)
def test_a_bad_checkpoint_is_one_sentence_and_leaves_nothing(refused, spoil, sentence):
    spoil()
    found = refused(run_localize, "base=base", "task=task", "metric=pad,cosine")
    assert found.startswith(sentence)


def test_hub_ids_and_nothing_at_all(refused):
    found = refused(run_localize, "base=base", "task=somewhere")
    assert found.startswith("task=somewhere is no folder or safetensors file, no run in outputs/ru")
    found = refused(run_localize, "base=somebody/model", "task=task")
    assert found.startswith("somebody/model@main cannot be fetched (HF_HUB_OFFLINE is set)")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("metric=pda", "there is no metric pda, did you mean 'pad'?"),
        ("metric=pad,cosin", "there is no metric cosin, did you mean 'cosine'?"),
        ("ratio=0", "ratio must lie in (0, 1], got 0.0"),
        ("ratio=2", "ratio must lie in (0, 1], got 2.0"),
        ("tau=0", "tau must be a number above 0, got 0"),
        ("tau=-1", "tau must be a number above 0, got -1"),
        ("tau=true", "tau must be a number above 0, got True"),
        ("ground=value", "there is no ground=value, did you mean 'values'?"),
        ("direction=task", "there is no direction=task, did you mean 'task_base'?"),
        ("matrix=concatenate", "matrix=concatenate is not possible, did you mean 'concat'?"),
        ("bias=included", "bias=included is not possible, did you mean 'include'?"),
        ("compat=author", "compat=author is not possible, did you mean 'authors'?"),
        ("groud=index", "groud is not a setting, did you mean 'ground'?"),
        (
            "ratio=0.1,0.2",
            "ratio=0.1,0.2 names several values",
        ),
        ("ratio=[", "'ratio=[' cannot be read"),
    ],
)
def test_a_bad_setting_is_one_sentence_and_leaves_nothing(refused, setting, sentence):
    assert refused(run_localize, "base=base", "task=task", setting).startswith(sentence)


def test_a_missing_checkpoint_is_named(refused):
    assert refused(run_localize, "task=task") == "base=... is missing"
    assert refused(run_localize) == "base=... is missing; task=... is missing"


def head_file(name: str, *heads: tuple[int, int], **changes) -> str:
    plain = HeadSet(heads=heads or ((0, 1), (2, 5)), geometry=GEOMETRY, metric="pad").to_json()
    Path(name).write_text(json.dumps({**plain, **changes}))
    return name


def test_show_prints_and_draws(cli):
    folder = score("ratio=0.2")
    out = cli("heads", "show", str(folder / "heads.json"), "top=3", check=0).stdout
    assert out.startswith("pad: 4 of 18 heads chosen")
    assert out.splitlines()[-1] == f"picture: {folder / 'heads.png'}"
    assert (folder / "heads.png").read_bytes()[:4] == b"\x89PNG"
    ranks = re.findall(r"^\s*(\d+) [│|]", out, re.MULTILINE)
    assert ranks == ["1", "2", "3"]


def test_show_draws_where_it_is_told(cli):
    done = cli("heads", "show", head_file("heads.json"), "png=pictures/map.png", check=0)
    assert Path("pictures/map.png").exists() and not Path("heads.png").exists()
    assert "picture: pictures/map.png" in done.stdout


def test_compare_prints_draws_and_writes(cli):
    files = [head_file("a.json", (0, 1), (2, 5)), head_file("b.json", (0, 1), (1, 1))]
    out = cli("heads", "compare", *files, check=0).stdout
    (folder,) = Path("outputs/reports").iterdir()
    assert (
        out.splitlines()[-1] == f"files: {folder}"
        and "in every set: 1 (layer, head): (0, 1)" in out
    )
    assert (folder / "overlap.png").read_bytes()[:4] == b"\x89PNG"
    (pair,) = json.loads((folder / "overlap.json").read_text())["pairs"]
    assert (pair["shared"], pair["jaccard"]) == (1, pytest.approx(1 / 3))


def test_compare_writes_where_it_is_told(cli):
    cli("heads", "compare", head_file("a.json"), head_file("b.json"), "to=here", check=0)
    assert Path("here/overlap.json").exists() and not Path("outputs").exists()
    cli("heads", "compare", "a.json", "b.json", "output_dir=o", check=0)
    assert list(Path("o/reports").iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "alps heads needs to know what to do: show FILE, or compare FILE FILE"),
        (["draw", "a.json"], "alps heads needs to know what to do"),
        (["show"], "alps heads show takes one heads.json, got 0"),
        (["show", "a.json", "b.json"], "alps heads show takes one heads.json, got 2"),
        (["show", "a.json", "top=many"], "top must be a whole number, got many"),
        (["show", "a.json", "top=²"], "top must be a whole number, got ²"),
        (["show", "a.json", "tpo=3"], "there is no setting tpo, did you mean 'top'?"),
        (["show", "missing.json"], "missing.json cannot be read (No such file"),
        (["show", "base"], "base cannot be read (Is a directory)"),
        (["show", "text.json"], "text.json is no head set: "),
        (["show", "list.json"], "list.json is no head set: "),
        (["show", "lacking.json"], "lacking.json is no head set: the head set lacks the field"),
        (["show", "outside.json"], "outside.json is no head set: head (3, 0) lies outside"),
        (["show", "nan.json"], "the scores of this head set hold NaN or infinity"),
        (["compare"], "a comparison needs two head sets or more, not 0"),
        (["compare", "a.json"], "a comparison needs two head sets or more, not 1"),
        (["compare", "a.json", "wide.json"], "a has 3 layers x 6 heads"),
        (["compare", "a.json", "missing.json"], "missing.json cannot be read (No such file"),
        (["compare", "a.json", "b.json", "too=x"], "there is no setting too, did you mean 'to'?"),
        (["compare", "a.json", "text.json"], "text.json is no head set: "),
    ],
)
def test_bad_arguments_of_heads_are_one_sentence_and_leave_nothing(cli, arguments, sentence):
    head_file("a.json")
    head_file("b.json")
    head_file("wide.json", num_heads=8)
    head_file("outside.json", heads=[[3, 0]])
    head_file("nan.json", scores=[[float("nan")] * 6] * 3)
    Path("text.json").write_text("no json")
    Path("list.json").write_text("[1, 2]")
    Path("lacking.json").write_text('{"heads": [[0, 0]], "num_layers": 1}')
    before = sorted(Path().rglob("*"))
    done = cli("heads", *arguments, check=2)
    assert done.stderr.startswith(f"error: {sentence}") and done.stderr.count("\n") == 1
    assert not done.stdout and sorted(Path().rglob("*")) == before


def test_a_real_fine_tune_end_to_end(alps, tmp_path, make_trained):
    run = make_trained("method=full")
    done = alps("localize", "base=tiny", f"task={run.key}", "metric=pad,kl", "ratio=0.2", check=0)
    assert done.stderr == ""
    assert done.stdout.startswith("pad: 4 of 16 heads chosen (25.0 %)")
    assert f"tiny → {run.key}" in done.stdout
    (folder,) = (tmp_path / "outputs" / "scores").iterdir()
    assert done.stdout.splitlines()[-1] == f"files: outputs/scores/{folder.name}"
    heads = HeadSet.read(folder / "heads.json")
    assert np.array(heads.scores).min() > 0 and heads.task_hash == run.key
    bad = alps("localize", "base=tiny", "task=nothing", check=2)
    assert bad.stderr.startswith("error: task=nothing is no folder") and bad.stdout == ""
