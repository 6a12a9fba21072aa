"""The authors' script printed these numbers (commit 70bce03, torch 2.13.0, transformers 5.23.0)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from alps.base.serialization import SettingsError
from alps.heads.geometry import Geometry
from alps.localization.engine import localize, localize_metrics
from alps.models.architecture import qkv_names

PRINTED = {
    ("mha", "pad"): [
        0.0008669848165004898, 0.0007933827801519076, 0.0006482193543387504, 0.00047559876958050954,
        0.0004772118477233185, 0.0007460880726703883, 0.0006673863691982065, 0.0006373687562739463,
    ],
    ("mha", "kl"): [
        0.00010578753426671028, 0.00010095603647641838, 9.310268796980381e-05,
        8.133414667099714e-05, 8.892582263797522e-05, 0.00010601046960800886,
        0.0001031779102049768, 8.130515925586224e-05,
    ],
    ("mha", "cosine"): [
        0.00010609626770019531, 9.85860824584961e-05, 8.922815322875977e-05, 8.118152618408203e-05,
        8.821487426757812e-05, 0.00010526180267333984, 0.00010418891906738281,
        8.022785186767578e-05,
    ],
    ("gqa", "pad"): [
        0.0008669848165004898, 0.0007933827801519076, 0.00033208372668535707, 0.0002694553806221073,
        0.0004772118477233185, 0.0007460880726703883, 0.0004987938676376064, 0.0003354689395297033,
    ],
    ("gqa", "kl"): [
        0.00010578753426671028, 0.00010095603647641838, 9.037749259732664e-05,
        7.640302646905184e-05, 8.892582263797522e-05, 0.00010601046960800886,
        0.00010469960398040712, 7.833901327103376e-05,
    ],
    ("gqa", "cosine"): [
        0.00010609626770019531, 9.85860824584961e-05, 7.915496826171875e-05, 6.872415542602539e-05,
        8.821487426757812e-05, 0.00010526180267333984, 9.942054748535156e-05, 6.669759750366211e-05,
    ],
}  # fmt: skip
# float32 inside: the order of a processor's sums shows. kl and cosine end in quotients of sums near
# 1, a few roundings of EPS. pad adds up 64 or more probabilities, each rounded by itself: their
# errors grow like a random walk, so a partial sum of them is off by EPS / sqrt(64).
EPS = float(np.finfo(np.float32).eps)
TOLERANCE = {"pad": {"abs": EPS / 8}, "kl": {"abs": 4 * EPS}, "cosine": {"abs": 4 * EPS}}
SHAPES = {
    kind: Geometry(num_layers=2, num_heads=4, num_kv_heads=num_kv_heads, head_dim=4)
    for kind, num_kv_heads in (("mha", 4), ("gqa", 2))
}


def waves(shape: tuple[int, int], first: float, size: float) -> torch.Tensor:
    i = np.arange(np.prod(shape), dtype=np.float64)
    return torch.from_numpy((size * np.sin(0.37 * i * i + first)).reshape(shape).astype(np.float32))


def checkpoints(
    folder: Path, kind: str, dtype: torch.dtype = torch.float32, size: float = 0.02
) -> tuple[Path, Path]:
    base, task = {}, {}
    for layer in range(2):
        for p, name in enumerate(qkv_names(layer)):
            heads = 4 if p == 0 else SHAPES[kind].num_kv_heads
            shape = (4 * heads, 16)
            base[name] = waves(shape, 10 * layer + p, 0.5)
            task[name] = base[name] + waves(shape, 5 + 10 * layer + 3 * p, size)
    places = folder / "base.safetensors", folder / "task.safetensors"
    for place, tensors in zip(places, (base, task), strict=True):
        save_file({n: t.to(dtype) for n, t in tensors.items()}, place)
    return places


@pytest.mark.parametrize(("kind", "metric"), PRINTED)
def test_the_numbers_of_the_script_come_out(tmp_path, kind, metric):
    pair = checkpoints(tmp_path, kind)
    scores = localize(*pair, metric, geometry=SHAPES[kind], compat="authors")
    assert scores.values.ravel().tolist() == pytest.approx(
        PRINTED[kind, metric], **TOLERANCE[metric]
    )


def test_all_metrics_come_in_one_pass_with_what_was_done(tmp_path):
    pair = checkpoints(tmp_path, "gqa")
    seen = []
    asked = {m: {} for m in ("pad", "kl", "cosine")}
    found = localize_metrics(
        *pair, asked, geometry=SHAPES["gqa"], compat="authors",
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    for metric, scores in found.items():
        expected = PRINTED["gqa", metric]
        assert scores.values.ravel().tolist() == pytest.approx(expected, **TOLERANCE[metric])
        about = scores.provenance
        assert (about["compat"], about["matrix"], about["bias"]) == ("authors", "concat", "ignore")
        assert about["options"] == {}
    assert seen == [(2, 4), (4, 4)]


def test_its_slices_give_grouped_heads_other_keys_than_their_own(tmp_path):
    """Its head 1 takes the rows of KV group 1, and heads 2 and 3 have no k and v at all."""
    pair = checkpoints(tmp_path, "gqa", torch.bfloat16)
    g = SHAPES["gqa"]
    theirs = localize(*pair, geometry=g, compat="authors").values
    ours = localize(*pair, geometry=g, matrix="concat").values
    assert theirs[:, 0] == pytest.approx(ours[:, 0], rel=1e-3)
    assert (abs(theirs[:, 1:] / ours[:, 1:] - 1) > 1e-2).all()


def test_without_grouped_queries_and_rounding_ours_agrees(tmp_path):
    """What is left is their float32 softmax, which scipy renormalises for the distance only."""
    pair = checkpoints(tmp_path, "mha", torch.bfloat16)
    g = SHAPES["mha"]
    theirs = localize(*pair, geometry=g, compat="authors").values
    ours = localize(*pair, geometry=g, matrix="concat").values
    assert ours == pytest.approx(theirs, **TOLERANCE["pad"])
    theirs = localize(*pair, "kl", geometry=g, compat="authors").values
    ours = localize(*pair, "kl", geometry=g, matrix="concat", direction="task_base").values
    assert ours == pytest.approx(theirs, **TOLERANCE["kl"])
    theirs = localize(*pair, "cosine", geometry=g, compat="authors").values
    ours = localize(*pair, "cosine", geometry=g, matrix="concat").values
    assert ours == pytest.approx(theirs, **TOLERANCE["cosine"])
    weights = localize(*pair, "cosine", geometry=g, matrix="concat", of="weights").values
    assert (abs(weights / theirs - 1) > 0.5).all()


def test_rounding_to_bfloat16_hides_a_small_change(tmp_path):
    """One of the defects that are reproduced: both models lose all but 8 bits."""
    pair = checkpoints(tmp_path, "mha", size=1e-5)
    g = SHAPES["mha"]
    theirs = localize(*pair, geometry=g, compat="authors").values
    ours = localize(*pair, geometry=g, matrix="concat").values
    assert ours.all() and (theirs == 0).any()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"metric": "euclidean"},
            "compat=authors has no metric euclidean (one of: pad, kl, cosine)",
        ),
        ({"tau": 2.0}, "compat=authors cannot have tau=2.0: leave tau out, as the script does"),
        ({"ground": "weights"}, "compat=authors cannot have ground=weights: leave ground out"),
        (
            {"metric": "kl", "direction": "task_base"},
            "compat=authors cannot have direction=task_base: leave direction out",
        ),
        (
            {"metric": "cosine", "of": "weights"},
            "compat=authors cannot have of=weights: leave of out",
        ),
        ({"bias": "include"}, "compat=authors cannot have bias=include: leave bias out"),
    ],
)
def test_what_the_script_does_not_do_is_refused_before_anything_is_read(
    tmp_path, settings, sentence
):
    with pytest.raises(SettingsError) as refusal:
        localize(tmp_path, tmp_path, compat="authors", **settings)
    assert str(refusal.value).startswith(sentence)
