"""The scores of a real pretrained model after a real, short fine-tune."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance

from alps.data.batches import pack
from alps.data.encoding.encode import encode
from alps.data.subset import training_examples
from alps.localization.engine import localize_metrics
from alps.models.architecture import qkv_names, read_geometry
from alps.models.checkpoint import materialize
from alps.models.load import load_model, load_tokenizer, pad_id
from alps.models.loss import answer_loss
from alps.models.qkv import QKVCheckpoint

HEADS = [(0, 0), (0, 8), (13, 4), (29, 5)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """SmolLM2-135M, and the same after three AdamW steps on four rows of word problems."""
    from alps.config.build import build, compose_config

    run = build(compose_config(["evals=none", "data.max_examples=4"]))
    base = materialize(run.model)
    model, tokenizer = load_model(base), load_tokenizer(base)
    rows, _ = encode(training_examples(run.data), tokenizer, "alpaca", 512)
    batch = pack(rows, pad_id(tokenizer))
    tokens = batch.pop("num_tokens")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.1)
    for _ in range(3):
        (answer_loss(model, **batch) / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
    geometry = read_geometry(base)
    names = [n for layer in range(geometry.num_layers) for n in qkv_names(layer)]
    task = tmp_path_factory.mktemp("task") / "task.safetensors"
    state = model.state_dict()
    save_file({n: state[n].contiguous() for n in names}, task)
    return base, task


@pytest.fixture(scope="module")
def scores(pair):
    return localize_metrics(*pair, {m: {} for m in ("pad", "kl", "euclidean", "cosine")})


def matrices(pair, layer: int, head: int) -> list[np.ndarray]:
    """Eq. 5 of base and task, flattened row after row, without this package's engine."""
    geometry = read_geometry(pair[0])
    found = []
    for place in pair:
        group = QKVCheckpoint(place, geometry).group(layer, geometry.kv_group(head))
        q, k, v = (w.double().numpy().T for w in group.weights)
        first = (head % geometry.group_size) * geometry.head_dim
        found.append((q[:, first : first + geometry.head_dim] @ (k.T @ v)).ravel())
    return found


def softmax(x: np.ndarray) -> np.ndarray:
    mass = np.exp(x - x.max())
    return mass / mass.sum()


@pytest.mark.parametrize(("layer", "head"), HEADS)
def test_scores_equal_scipy(pair, scores, layer, head):
    base, task = matrices(pair, layer, head)
    p, q = softmax(base), softmax(task)
    grid = np.linspace(0, 1, len(p))
    expected = {
        "pad": wasserstein_distance(grid, grid, p, q),
        "kl": (rel_entr(p, q) - p + q).sum(),
        "euclidean": np.linalg.norm(task - base),
        "cosine": ((p / np.linalg.norm(p) - q / np.linalg.norm(q)) ** 2).sum() / 2,
    }
    for metric, value in expected.items():
        found = scores[metric].values[layer, head]
        assert found == pytest.approx(value, abs=0, rel=1e-6), metric


def test_rounding_the_task_model_to_bf16_chooses_other_heads(pair, scores, tmp_path, caplog):
    """The reason why task models are kept in float32, and a warning that names the loss."""
    base, task = pair
    from safetensors.torch import load_file

    rounded = tmp_path / "rounded.safetensors"
    save_file({n: t.bfloat16() for n, t in load_file(task).items()}, rounded)
    coarse = localize_metrics(base, rounded, {"pad": {}})["pad"]
    shared = set(coarse.top(0.1).heads) & set(scores["pad"].top(0.1).heads)
    assert len(shared) < 20
    assert "stored as BF16" in caplog.text


def test_the_top_heads_train_more_than_their_share_of_weights(scores):
    heads = scores["pad"].top(0.1)
    assert len(heads.heads) == 27
    assert heads.qkv_share() > 0.12
