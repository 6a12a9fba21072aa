import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alps.heads import Geometry
from alps.localization import localize, qkv_names
from alps.methods.context import Context
from alps.methods.scored import Scored
from alps.methods.whole import Full
from alps.settings import TaskModel

GEOMETRY = Geometry(num_layers=2, num_heads=4, num_kv_heads=2, head_dim=2)


def scored(**changes) -> Scored:
    settings = {"name": "alps", "ratio": 0.3, "scope": "rest_trains", "metric": "pad"}
    return Scored(**{**settings, "task_model": TaskModel(method=Full(name="full")), **changes})


def checkpoint(path: Path, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    names = [name for layer in range(2) for name in qkv_names(layer)]
    rows = {name: 8 if "q_proj" in name else 4 for name in names}
    save_file({n: torch.randn(r, 6, generator=generator) for n, r in rows.items()}, path)
    return path


def test_an_unknown_metric_is_refused_before_anything_trains():
    (problem,) = scored(metric="eucldean").problems()
    assert "eucldean" in problem and "did you mean 'euclidean'?" in problem


@pytest.mark.parametrize("metric", ["pad", "kl", "euclidean", "cosine"])
def test_a_known_metric_is_taken(metric):
    assert list(scored(metric=metric).problems()) == []


@pytest.mark.parametrize("metric", ["pad", "euclidean"])
def test_the_heads_of_the_highest_scores_are_chosen_and_the_scores_kept(tmp_path, metric):
    base, task = (checkpoint(tmp_path / f"{i}.safetensors", i) for i in range(2))
    context = Context(
        geometry=GEOMETRY,
        seed=0,
        base=base,
        base_hash="b",
        task=task,
        task_hash="t",
        output_dir=tmp_path / "outputs",
    )
    chosen = scored(metric=metric).choose(context)
    assert chosen == localize(base, task, GEOMETRY, metric, "b", "t").top(0.3)
    assert len(chosen.heads) == 3 and chosen.metric == metric
    (folder,) = (tmp_path / "outputs" / "scores").iterdir()
    assert json.loads((folder / "scores.json").read_text())["metric"] == metric
