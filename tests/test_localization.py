import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from alps.heads import Geometry
from alps.localization import (
    Scores,
    head_matrices,
    localize,
    localize_cached,
    qkv_names,
    read_qkv,
)
from alps.scores import load, names

D_MODEL = 12
GEOMETRY = Geometry(num_layers=3, num_heads=6, num_kv_heads=2, head_dim=2)


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """The q, k and v of every layer by name, in the shapes a checkpoint stores."""
    generator = torch.Generator().manual_seed(seed)
    rows = {"q": 6 * 2, "k": 2 * 2, "v": 2 * 2}
    return {
        name: torch.randn(rows[name[-13]], D_MODEL, generator=generator)
        for layer in range(3)
        for name in qkv_names(layer)
    }


def moved(tensors: dict[str, torch.Tensor], size: float = 0.01) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {n: t + size * torch.randn(t.shape, generator=generator) for n, t in tensors.items()}


def save(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(weights(), tmp_path / "base.safetensors")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return save(moved(weights()), tmp_path / "task.safetensors")


def paper_matrix(tensors: dict[str, torch.Tensor], layer: int, h: int) -> np.ndarray:
    """Eq. 5 by the letter: W_q^h W_k^c^T W_v^c, each d x d_k, with h counted from 1."""
    q, k, v = (tensors[name].double().numpy() for name in qkv_names(layer))
    group = math.ceil(h * 2 / 6)
    w_q = q.T[:, 2 * (h - 1) : 2 * h]
    w_k, w_v = (m.T[:, 2 * (group - 1) : 2 * group] for m in (k, v))
    assert w_q.shape == w_k.shape == w_v.shape == (D_MODEL, 2)
    return np.einsum("ia,ja,jb->ib", w_q, w_k, w_v)


@pytest.mark.parametrize("layer", range(3))
def test_head_matrices_are_equation_5(layer):
    tensors = weights()
    qkv = tuple(tensors[name] for name in qkv_names(layer))
    for h, matrix in enumerate(head_matrices(qkv, GEOMETRY), start=1):
        assert matrix.dtype == torch.float64
        expected = paper_matrix(tensors, layer, h)
        np.testing.assert_allclose(matrix.numpy(), expected, rtol=1e-12, atol=1e-13)


def test_head_matrices_are_computed_in_float64():
    qkv = tuple(t.bfloat16() for t in (torch.ones(12, 12), torch.ones(4, 12), torch.ones(4, 12)))
    qkv[1][0, 0] = 257 / 256
    doubles = tuple(t.double() for t in qkv)
    for a, b in zip(head_matrices(qkv, GEOMETRY), head_matrices(doubles, GEOMETRY), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("metric", names())
def test_scores_are_the_metric_of_every_head(base, task, metric):
    found = localize(base, task, GEOMETRY, metric, "b", "t")
    for layer in range(3):
        for h in range(6):
            pair = [
                torch.from_numpy(paper_matrix(t, layer, h + 1))
                for t in (weights(), moved(weights()))
            ]
            assert float(found.values[layer, h]) == pytest.approx(load(metric)(*pair), rel=1e-7)
    assert (found.metric, found.base_hash, found.task_hash) == (metric, "b", "t")


@pytest.mark.parametrize("projection", ["k", "v"])
def test_a_change_of_a_kv_group_moves_its_own_heads_only(base, tmp_path, projection):
    tensors = weights()
    name = f"model.layers.1.self_attn.{projection}_proj.weight"
    tensors[name][2:4] += torch.randn(2, D_MODEL, generator=torch.Generator().manual_seed(2))
    values = localize(base, save(tensors, tmp_path / "task.safetensors"), GEOMETRY).values
    assert [tuple(i) for i in values.nonzero().tolist()] == [(1, 3), (1, 4), (1, 5)]


def test_a_change_of_a_query_head_moves_that_head_only(base, tmp_path):
    tensors = weights()
    tensors["model.layers.2.self_attn.q_proj.weight"][2:4] += torch.arange(D_MODEL) / 10
    values = localize(base, save(tensors, tmp_path / "task.safetensors"), GEOMETRY).values
    assert values.nonzero().tolist() == [[2, 1]]


def test_a_folder_and_its_shards_score_like_the_single_file(base, task, tmp_path):
    folder, sharded = tmp_path / "folder", tmp_path / "sharded"
    save(moved(weights()), folder / "model.safetensors")
    where = {}
    for i, (name, tensor) in enumerate(moved(weights()).items()):
        shard = f"model-{i % 2}.safetensors"
        where.setdefault(shard, {})[name] = tensor
    for shard, tensors in where.items():
        save(tensors, sharded / shard)
    weight_map = {name: shard for shard, tensors in where.items() for name in tensors}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    expected = localize(base, task, GEOMETRY).values
    assert torch.equal(localize(base, folder, GEOMETRY).values, expected)
    assert torch.equal(localize(base, sharded, GEOMETRY).values, expected)


def test_stored_precisions_may_differ(base, tmp_path):
    rounded = {n: t.bfloat16() for n, t in weights().items()}
    again = {n: t.float() for n, t in rounded.items()}
    files = [save(t, tmp_path / f"{i}.safetensors") for i, t in enumerate((rounded, again))]
    assert not localize(*files, GEOMETRY).values.any()
    assert localize(base, files[0], GEOMETRY).values.all()


def test_a_missing_tensor_is_named(base, tmp_path):
    tensors = weights()
    del tensors["model.layers.2.self_attn.v_proj.weight"]
    task = save(tensors, tmp_path / "task.safetensors")
    with pytest.raises(ValueError, match=r"task\.safetensors has no .*layers\.2\.self_attn\.v_pro"):
        localize(base, task, GEOMETRY)


def test_a_tensor_missing_from_the_index_is_named(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(ValueError, match=r"has no readable tensor model\.layers\.0"):
        read_qkv(tmp_path, 0)


@pytest.mark.parametrize("content", [None, b"", b"no safetensors at all"])
def test_a_missing_or_damaged_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="no readable tensor"):
        read_qkv(tmp_path, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_by_name(base, tmp_path, bad):
    tensors = weights()
    tensors["model.layers.1.self_attn.k_proj.weight"][3, 5] = bad
    task = save(tensors, tmp_path / "task.safetensors")
    with pytest.raises(ValueError, match=r"layers\.1\.self_attn\.k_proj\.weight in .*task.* NaN"):
        localize(base, task, GEOMETRY)


def test_a_score_that_is_not_finite_is_refused(base, tmp_path):
    tensors = weights()
    tensors["model.layers.1.self_attn.q_proj.weight"][2:4] = 0.0
    task = save(tensors, tmp_path / "task.safetensors")
    with pytest.raises(ValueError, match=r"cosine score of head \(1, 1\) is nan"):
        localize(base, task, GEOMETRY, "cosine")


@pytest.mark.parametrize(
    ("projection", "rows", "width"),
    [("q", 14, 12), ("q", 10, 12), ("k", 6, 12), ("v", 4, 14), ("q", 12, 6), ("k", 3, 12)],
)
def test_tensors_of_another_shape_are_refused_by_name(base, tmp_path, projection, rows, width):
    name = f"model.layers.1.self_attn.{projection}_proj.weight"
    task = save({**weights(), name: torch.ones(rows, width)}, tmp_path / "task.safetensors")
    with pytest.raises(ValueError, match=rf"{projection}_proj\.weight"):
        localize(base, task, GEOMETRY)


def test_an_unknown_metric_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="there is no metric 'pda'"):
        localize(tmp_path / "none", tmp_path / "none", GEOMETRY, "pda")


@pytest.mark.parametrize("metric", names())
def test_identical_checkpoints_score_zero_and_choose_nothing(base, metric):
    scores = localize(base, base, GEOMETRY, metric)
    assert not scores.values.any()
    with pytest.raises(ValueError, match="identical attention weights"):
        scores.top(0.5)


def test_top_takes_k_heads_over_all_layers_and_remembers_why():
    values = torch.zeros(3, 6, dtype=torch.float64)
    values[2, 5], values[0, 1], values[1, 1] = 3.0, 2.0, 1.0
    chosen = Scores(values, "pad", GEOMETRY, "b", "t").top(0.1)
    assert chosen.heads == ((0, 1), (2, 5))  # ceil(1.8)
    assert (chosen.metric, chosen.ratio) == ("pad", 0.1)
    assert (chosen.base_hash, chosen.task_hash, chosen.geometry) == ("b", "t", GEOMETRY)


def cached(tmp_path: Path, base: Path, task: Path, **changes) -> Scores:
    settings = {"metric": "pad", "base_hash": "b", "task_hash": "t", **changes}
    return localize_cached(
        tmp_path / "outputs", base=base, task=task, geometry=GEOMETRY, **settings
    )


def test_scores_are_read_again_without_the_checkpoints(base, task, tmp_path):
    first = cached(tmp_path, base, task)
    base.unlink()
    task.unlink()
    again = cached(tmp_path, base, task)
    assert torch.equal(first.values, again.values)
    assert again.values.dtype == torch.float64
    assert (again.metric, again.geometry) == ("pad", GEOMETRY)
    assert (again.base_hash, again.task_hash) == ("b", "t")
    (folder,) = (tmp_path / "outputs" / "scores").iterdir()
    assert folder.name.startswith("pad-")
    assert json.loads((folder / "scores.json").read_text())["task_hash"] == "t"


@pytest.mark.parametrize("change", [{"base_hash": "x"}, {"task_hash": "x"}, {"metric": "kl"}])
def test_scores_are_computed_anew_for_another_pair_or_metric(base, task, tmp_path, change):
    cached(tmp_path, base, task)
    assert cached(tmp_path, base, task, **change).values.any()
    assert len(list((tmp_path / "outputs" / "scores").iterdir())) == 2
    with pytest.raises(ValueError, match="no readable tensor"):
        cached(tmp_path, tmp_path / "gone", task, **{**change, "task_hash": "another"})


def test_scores_half_written_are_computed_again(base, task, tmp_path):
    first = cached(tmp_path, base, task)
    (folder,) = (tmp_path / "outputs" / "scores").iterdir()
    (folder / "scores.json").unlink()
    (folder / "scores.safetensors").write_bytes(b"half")
    assert torch.equal(cached(tmp_path, base, task).values, first.values)


def test_nothing_is_remembered_of_a_refused_pair(base, tmp_path):
    with pytest.raises(ValueError):
        cached(tmp_path, base, tmp_path / "gone")
    assert not (tmp_path / "outputs").exists()
