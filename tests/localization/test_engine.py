"""Whole tiny checkpoints, as transformers saves them, against loops over their tensors."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import wasserstein_distance
from transformers import AutoConfig, AutoModelForCausalLM

import alps
from alps.base.serialization import SettingsError
from alps.heads.geometry import Geometry
from alps.localization.engine import localize, localize_metrics, open_pair
from alps.models.architecture import qkv_names
from alps.scores import metric_names

FAMILIES = {
    "llama": ("llama", {"num_key_value_heads": 2}),
    "llama_mha": ("llama", {"num_key_value_heads": 6}),
    "llama_mqa": ("llama", {"num_key_value_heads": 1}),
    "qwen2": ("qwen2", {"num_key_value_heads": 2}),  # biases of q, k and v
    "qwen3": ("qwen3", {"num_key_value_heads": 3, "head_dim": 8}),  # norms of q and k
    "mistral": ("mistral", {"num_key_value_heads": 2, "head_dim": 6}),
}
NUM_LAYERS, NUM_HEADS, WIDTH = 3, 6, 24
PLAIN = Geometry(num_layers=3, num_heads=6, num_kv_heads=2, head_dim=2)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folders of a family's base and task model; the task moved by `shift`. Do not write there."""
    made = {}

    def make(family: str, shift: float) -> tuple[Path, Path]:
        if (family, shift) not in made:
            folder = tmp_path_factory.mktemp(family)
            made[family, shift] = folder / "base", folder / "task"
            save_models(family, shift, *made[family, shift])
        return made[family, shift]

    return make


def save_models(family: str, shift: float, base: Path, task: Path, **options) -> None:
    kind, changes = FAMILIES[family]
    shape = {"num_hidden_layers": NUM_LAYERS, "num_attention_heads": NUM_HEADS}
    small = {"vocab_size": 16, "hidden_size": WIDTH, "intermediate_size": 8}
    config = AutoConfig.for_model(kind, **small, **shape, **changes)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(len(family))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # transformers draws from torch's own generator
        for size, place in ((0.4, base), (shift, task)):
            for parameter in model.parameters():
                parameter += size * torch.randn(parameter.shape, generator=generator)
            model.save_pretrained(place, **options)


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    return {n: t.double().numpy() for n, t in load_file(folder / "model.safetensors").items()}


def paper_matrix(tensors, geometry: Geometry, layer: int, h: int, bias: bool = False) -> np.ndarray:
    """Eq. 5 by the letter: W_q^h W_k^c^T W_v^c, each d x d_k, with h counted from 1."""
    size = geometry.head_dim
    group = math.ceil(h * geometry.num_kv_heads / geometry.num_heads)
    w_q, w_k, w_v = (
        projection(tensors, layer, p, bias).T[:, size * (i - 1) : size * i]
        for p, i in (("q", h), ("k", group), ("v", group))
    )
    assert w_q.shape == w_k.shape == w_v.shape == (WIDTH + bias, size)
    return np.einsum("ia,ja,jb->ib", w_q, w_k, w_v)


def concatenated(tensors, geometry: Geometry, layer: int, h: int, bias: bool = False) -> np.ndarray:
    """Rows of q, k and v of a head as they are stored, one projection behind the other."""
    size = geometry.head_dim
    group = math.ceil(h * geometry.num_kv_heads / geometry.num_heads)
    pieces = [
        projection(tensors, layer, p, bias)[size * (i - 1) : size * i].ravel()
        for p, i in (("q", h), ("k", group), ("v", group))
    ]
    return np.concatenate(pieces)


def projection(tensors, layer: int, p: str, bias: bool) -> np.ndarray:
    weight = tensors[f"model.layers.{layer}.self_attn.{p}_proj.weight"]
    if not bias:
        return weight
    return np.hstack([weight, tensors[f"model.layers.{layer}.self_attn.{p}_proj.bias"][:, None]])


MATRICES = {"product": paper_matrix, "concat": concatenated}


def exact(metric: str, base: np.ndarray, task: np.ndarray) -> float:
    """Every metric in long doubles, from the formulas of the paper."""
    x, y = (m.ravel().astype(np.longdouble) for m in (base, task))
    if metric == "euclidean":
        return float(np.sqrt(((y - x) ** 2).sum()))
    if metric == "cosine":
        x, y = np.exp(x), np.exp(y)  # a softmax but for its length
        units = x / np.sqrt((x * x).sum()) - y / np.sqrt((y * y).sum())
        return float((units * units).sum() / 2)
    log_p, log_q = (m - np.log(np.exp(m).sum()) for m in (x, y))
    if metric == "kl":
        return float((np.exp(log_p) * (np.expm1(log_q - log_p) - (log_q - log_p))).sum())
    carried = np.cumsum(np.exp(log_q) - np.exp(log_p))[:-1]
    return float(np.abs(carried).sum() / (x.size - 1))


def table(function, base: Path, task: Path, geometry: Geometry, *arguments) -> np.ndarray:
    """A function of the two matrices of every head."""
    both = tensors_of(base), tensors_of(task)
    make, *rest = arguments
    return np.array(
        [
            [function(*(make(t, geometry, layer, h + 1, *rest) for t in both)) for h in range(6)]
            for layer in range(NUM_LAYERS)
        ]
    )


@pytest.mark.parametrize("matrix", ["product", "concat"])
@pytest.mark.parametrize("shift", [0.1, 1e-3, 1e-5])
@pytest.mark.parametrize("family", FAMILIES)
def test_all_metrics_of_every_head_equal_long_double_loops(checkpoints, family, shift, matrix):
    base, task = checkpoints(family, shift)
    found = localize_metrics(base, task, {m: {} for m in metric_names()}, matrix=matrix)
    for metric, scores in found.items():
        expected = table(
            lambda a, b, m=metric: exact(m, a, b), base, task, scores.geometry, MATRICES[matrix]
        )
        assert scores.values.dtype == np.float64 and scores.metric == metric
        np.testing.assert_allclose(scores.values, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("matrix", ["product", "concat"])
@pytest.mark.parametrize("ground", ["index", "values", "weights"])
@pytest.mark.parametrize(("shift", "tau"), [(0.1, 1.0), (1e-3, 0.5)])
def test_pad_of_every_head_equals_scipy(checkpoints, shift, tau, ground, matrix):
    base, task = checkpoints("llama", shift)
    scores = localize(base, task, matrix=matrix, ground=ground, tau=tau)

    def reference(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a.ravel(), b.ravel()
        if ground == "weights":
            return wasserstein_distance(a, b)
        p, q = (np.exp(m / tau) / np.exp(m / tau).sum() for m in (a, b))
        grid = np.linspace(0, 1, len(p))
        if ground == "values":
            return wasserstein_distance(p, q)
        return wasserstein_distance(grid, grid, p, q)

    expected = table(reference, base, task, scores.geometry, MATRICES[matrix])
    np.testing.assert_allclose(scores.values, expected, rtol=1e-6, atol=0)


def test_what_a_family_says_of_its_shape_is_used(checkpoints):
    kinds = {f: open_pair(*checkpoints(f, 0.1))[0] for f in FAMILIES}
    assert {f: (q.geometry.num_kv_heads, q.geometry.head_dim) for f, q in kinds.items()} == {
        "llama": (2, 4), "llama_mha": (6, 4), "llama_mqa": (1, 4), "qwen2": (2, 4),
        "qwen3": (3, 8), "mistral": (2, 6),
    }  # fmt: skip
    assert [f for f, q in kinds.items() if q.has_biases] == ["qwen2"]


@pytest.mark.parametrize("matrix", ["product", "concat"])
def test_biases_are_one_more_input_if_included(checkpoints, matrix):
    base, task = checkpoints("qwen2", 1e-3)
    with_biases = localize(base, task, matrix=matrix, bias="include")
    make = MATRICES[matrix]
    expected = table(lambda a, b: exact("pad", a, b), base, task, with_biases.geometry, make, True)
    np.testing.assert_allclose(with_biases.values, expected, rtol=1e-8)
    without = localize(base, task, matrix=matrix)
    assert (without.values != with_biases.values).all()
    assert with_biases.provenance["bias"] == "include" and without.provenance["bias"] == "ignore"


def test_where_there_are_no_biases_including_them_is_the_same(checkpoints):
    base, task = checkpoints("llama", 1e-3)
    included = localize(base, task, bias="include")
    np.testing.assert_array_equal(included.values, localize(base, task).values)
    assert included.provenance["bias"] == "none"


@pytest.mark.parametrize("matrix", ["product", "concat"])
def test_a_change_of_biases_only_is_none_unless_they_are_included(checkpoints, tmp_path, matrix):
    base, _ = checkpoints("qwen2", 1e-3)
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.self_attn.v_proj.bias"][4:] += 0.1  # the second of two groups
    task = save(tensors, tmp_path / "task.safetensors")
    ignored = localize(base, task, matrix=matrix)
    assert not ignored.values.any()
    with pytest.raises(ValueError, match="identical attention weights"):
        ignored.top(0.1)
    included = localize(base, task, matrix=matrix, bias="include")
    assert included.values.nonzero()[0].tolist() == [1, 1, 1]
    assert included.values.nonzero()[1].tolist() == [3, 4, 5]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_shards_score_bitwise_like_one_file(checkpoints, tmp_path, family):
    base, task = checkpoints(family, 1e-3)
    save_models(family, 1e-3, tmp_path / "base", tmp_path / "task", max_shard_size="6KB")
    assert len(list((tmp_path / "task").glob("model-*-of-*.safetensors"))) > 3
    metrics = {m: {} for m in metric_names()}
    whole = localize_metrics(base, task, metrics, bias="include")
    for pair in [(base, tmp_path / "task"), (tmp_path / "base", tmp_path / "task")]:
        for metric, scores in localize_metrics(*pair, metrics, bias="include").items():
            np.testing.assert_array_equal(scores.values, whole[metric].values)


@pytest.mark.parametrize("matrix", ["product", "concat"])
def test_the_number_of_threads_changes_no_bit(checkpoints, matrix):
    pair = checkpoints("llama", 1e-3)
    metrics = {m: {} for m in metric_names()}
    found = {}
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found[threads] = localize_metrics(*pair, metrics, matrix=matrix)
            assert torch.get_num_threads() == threads  # as it was
    finally:
        torch.set_num_threads(before)
    for metric in metrics:
        np.testing.assert_array_equal(found[1][metric].values, found[3][metric].values)


@pytest.mark.parametrize("matrix", ["product", "concat"])
def test_the_same_pair_has_the_same_bits_every_time(tmp_path, matrix):
    """Some BLAS sums begin at the next 32-byte boundary: their rounding follows the address."""
    g = Geometry(num_layers=2, num_heads=8, num_kv_heads=2, head_dim=8)
    generator = torch.Generator().manual_seed(0)
    rows = {n: 64 if "q_proj" in n else 16 for layer in range(2) for n in qkv_names(layer)}
    before = {n: 0.1 * torch.randn(r, 64, generator=generator) for n, r in rows.items()}
    after = {n: t + 1e-3 * torch.randn(t.shape, generator=generator) for n, t in before.items()}
    pair = save(before, tmp_path / "base.safetensors"), save(after, tmp_path / "task.safetensors")
    found, held = set(), []
    for i in range(6):
        held.append(np.empty(371 * i + 1))  # moves what is allocated next
        scores = localize_metrics(*pair, {m: {} for m in metric_names()}, geometry=g, matrix=matrix)
        found.add(b"".join(s.values.tobytes() for s in scores.values()))
    assert len(found) == 1


def test_one_pass_for_several_metrics_is_several_passes_for_one(checkpoints):
    pair = checkpoints("mistral", 1e-3)
    asked = {"kl": {"direction": "task_base"}, "pad": {"ground": "weights"}, "cosine": {}}
    together = localize_metrics(*pair, asked)
    for metric, options in asked.items():
        alone = localize(*pair, metric, **options)
        np.testing.assert_array_equal(together[metric].values, alone.values)
        assert alone.provenance == together[metric].provenance


def test_provenance_says_what_was_compared(checkpoints):
    base, task = checkpoints("llama", 1e-3)
    scores = localize(base, task, "kl", matrix="concat", tau=2.0)
    assert scores.provenance["options"] == {"tau": 2.0}
    expected = {"matrix": "concat", "compat": None, "base": str(base), "task": str(task)}
    assert expected.items() <= scores.provenance.items()
    assert scores.provenance["base_dtype"] == scores.provenance["task_dtype"] == "F32"
    json.dumps(dict(scores.provenance))  # goes into heads.json as it is


def test_progress_counts_kv_groups_up_to_all(checkpoints):
    seen = []
    localize(*checkpoints("llama", 1e-3), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_it_is_the_packages_public_function(checkpoints):
    pair = [str(p) for p in checkpoints("llama", 1e-3)]
    np.testing.assert_array_equal(alps.localize(*pair).values, localize(*pair).values)
    with pytest.raises(AttributeError, match="no attribute 'localise'"):
        alps.localise  # noqa: B018


# Smaller checkpoints, made by hand: what moves which score, and what is refused.


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = {"q": 6 * 2, "k": 2 * 2, "v": 2 * 2}
    return {
        name: torch.randn(rows[name[-13]], 12, generator=generator)
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


def scored(base: Path, task: Path, metric: str = "pad", **options) -> np.ndarray:
    return localize(base, task, metric, geometry=PLAIN, **options).values


@pytest.mark.parametrize("metric", metric_names())
@pytest.mark.parametrize("matrix", ["product", "concat"])
@pytest.mark.parametrize("projection", ["k", "v"])
def test_a_change_of_a_kv_group_moves_its_own_heads_only(
    base, tmp_path, projection, matrix, metric
):
    tensors = weights()
    name = f"model.layers.1.self_attn.{projection}_proj.weight"
    tensors[name][2:4] += torch.randn(2, 12, generator=torch.Generator().manual_seed(2))
    values = scored(base, save(tensors, tmp_path / "task.safetensors"), metric, matrix=matrix)
    assert [tuple(i) for i in np.argwhere(values).tolist()] == [(1, 3), (1, 4), (1, 5)]


@pytest.mark.parametrize("metric", metric_names())
@pytest.mark.parametrize("matrix", ["product", "concat"])
def test_a_change_of_a_query_head_moves_that_head_only(base, tmp_path, matrix, metric):
    tensors = weights()
    tensors["model.layers.2.self_attn.q_proj.weight"][2:4] += torch.arange(12) / 10
    values = scored(base, save(tensors, tmp_path / "task.safetensors"), metric, matrix=matrix)
    assert np.argwhere(values).tolist() == [[2, 1]]


@pytest.mark.parametrize("compat", [None, "authors"])
def test_layers_beyond_nine_stand_in_their_order(tmp_path, compat):
    """Names of layers sort as text (10 before 2) in many tools."""
    g = Geometry(num_layers=12, num_heads=1, num_kv_heads=1, head_dim=2)
    tensors = {n: torch.ones(2, 4) for layer in range(12) for n in qkv_names(layer)}
    base = save(tensors, tmp_path / "base.safetensors")
    for layer in range(12):
        change = torch.linspace(0, 1, 8).reshape(2, 4) * (layer + 1) / 4
        tensors = {**tensors, qkv_names(layer)[0]: tensors[qkv_names(layer)[0]] + change}
    task = save(tensors, tmp_path / "task.safetensors")
    values = localize(base, task, geometry=g, compat=compat).values[:, 0]
    assert (np.diff(values) > 0).all()


def test_stored_precisions_may_differ(base, tmp_path):
    rounded = {n: t.bfloat16() for n, t in weights().items()}
    again = {n: t.float() for n, t in rounded.items()}
    doubles = {n: t.double() for n, t in again.items()}
    files = [
        save(t, tmp_path / f"{i}.safetensors") for i, t in enumerate((rounded, again, doubles))
    ]
    assert not scored(files[0], files[1]).any() and not scored(files[0], files[2]).any()
    assert scored(base, files[0]).all()
    np.testing.assert_array_equal(scored(base, files[0]), scored(base, files[2]))


def test_products_are_formed_in_float64(tmp_path):
    """257/256 is a bfloat16 that no product in bfloat16 keeps."""
    tensors = {n: torch.ones_like(t).bfloat16() for n, t in weights().items()}
    base = save(tensors, tmp_path / "base.safetensors")
    name = "model.layers.0.self_attn.k_proj.weight"
    tensors[name] = tensors[name].clone()
    tensors[name][0, 0] = 1 + 2**-7
    task = save(tensors, tmp_path / "task.safetensors")
    # A column of q k^T v: v and k are summed over 12 inputs, so an entry of 24 gains 2^-7.
    assert scored(base, task, "euclidean")[0, 0] == pytest.approx(2**-7 * math.sqrt(24), rel=1e-12)


@pytest.mark.parametrize("metric", metric_names())
def test_identical_checkpoints_score_zero_and_choose_nothing(base, metric):
    scores = localize(base, base, metric, geometry=PLAIN)
    assert not scores.values.any()
    with pytest.raises(ValueError, match="identical attention weights"):
        scores.top(0.5)


@pytest.mark.parametrize("which", ["base", "task"])
@pytest.mark.parametrize("projection", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path, bad, projection, which):
    tensors = weights()
    tensors[f"model.layers.1.self_attn.{projection}_proj.weight"][3, 5] = bad
    files = {
        n: save(weights(i), tmp_path / f"{n}.safetensors") for i, n in enumerate(("base", "task"))
    }
    save(tensors, files[which])
    name = rf"^model\.layers\.1\.self_attn\.{projection}_proj\.weight in .*/{which}\.safetensors"
    with pytest.raises(ValueError, match=f"{name} holds NaN or infinite values$"):
        scored(files["base"], files["task"])
    with pytest.raises(ValueError, match=f"{name} holds NaN or infinite values$"):
        scored(files["base"], files["task"], compat="authors")


def test_large_halves_are_finite_though_their_sum_is_not(tmp_path):
    tensors = {n: torch.full_like(t, 60_000.0).half() for n, t in weights().items()}
    base = save(tensors, tmp_path / "base.safetensors")
    task = save({n: t / 2 for n, t in tensors.items()}, tmp_path / "task.safetensors")
    assert np.isfinite(scored(base, task, "euclidean")).all()


def test_a_score_that_is_not_finite_is_refused(base, tmp_path):
    tensors = weights()
    tensors["model.layers.1.self_attn.q_proj.weight"][2:4] = 0.0
    task = save(tensors, tmp_path / "task.safetensors")
    with pytest.raises(ValueError, match=r"^the cosine score of head \(1, 1\) is nan$"):
        scored(base, task, "cosine", of="weights")


def test_a_missing_tensor_is_named(base, tmp_path):
    tensors = weights()
    del tensors["model.layers.2.self_attn.v_proj.weight"]
    task = save(tensors, tmp_path / "task.safetensors")
    with pytest.raises(ValueError, match=r"task\.safetensors has no .*layers\.2\.self_attn\.v_pro"):
        scored(base, task)


def test_shapes_that_do_not_fit_together_are_refused(base, checkpoints, tmp_path):
    wide = {n: torch.ones(len(t), 14) for n, t in weights().items()}
    task = save(wide, tmp_path / "task.safetensors")
    with pytest.raises(ValueError, match=r"differ in shape: .* has width 12 .* has 14"):
        scored(base, task)
    llama, _ = checkpoints("llama", 0.1)
    for other in ("llama_mha", "mistral"):
        with pytest.raises(ValueError, match="base and task model differ in shape"):
            localize(llama, checkpoints(other, 0.1)[1])
    with pytest.raises(ValueError, match=r"differ in shape: .* no biases"):
        localize(llama, checkpoints("qwen2", 0.1)[1])
    with pytest.raises(ValueError, match="base and task model differ in shape"):
        localize(*checkpoints("llama", 0.1), geometry=PLAIN)


def test_one_config_is_enough_and_none_is_refused(checkpoints, tmp_path):
    base, task = checkpoints("llama", 0.1)
    file = task / "model.safetensors"
    expected = localize(base, task).values
    np.testing.assert_array_equal(localize(base, file).values, expected)
    np.testing.assert_array_equal(localize(base / "model.safetensors", task).values, expected)
    with pytest.raises(ValueError, match=r"^neither .* nor .* has a config\.json that tells"):
        localize(base / "model.safetensors", file)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"metric": "pda"}, "there is no metric pda, did you mean 'pad'?"),
        ({"tau": 0}, "tau must be a number above 0, got 0"),
        ({"ground": "weihgts"}, "there is no ground=weihgts, did you mean 'weights'?"),
        ({"metric": "kl", "ground": "index"}, "metric kl has no option ground"),
        ({"matrix": "produkt"}, "there is no matrix=produkt, did you mean 'product'?"),
        ({"bias": "inlcude"}, "there is no bias=inlcude, did you mean 'include'?"),
        ({"compat": "author"}, "there is no compat=author, did you mean 'authors'?"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_read(tmp_path, settings, problem):
    with pytest.raises(SettingsError) as refusal:
        localize(tmp_path / "none", tmp_path / "none", **settings)
    assert str(refusal.value).startswith(problem)


def test_a_failing_group_ends_the_call_and_leaves_the_threads_as_they_were(base, tmp_path):
    tensors = weights()
    tensors["model.layers.0.self_attn.q_proj.weight"][0, 0] = math.nan
    task = save(tensors, tmp_path / "task.safetensors")
    before = torch.get_num_threads()
    seen = []
    with pytest.raises(ValueError, match="NaN"):
        scored(base, task, progress=lambda done, total: seen.append(done))
    assert torch.get_num_threads() == before and len(seen) < 6


def test_a_hub_id_is_fetched(monkeypatch, base, task):
    asked = []
    monkeypatch.setattr(
        "alps.models.hub.fetch_qkv", lambda *about: asked.append(about) or task, raising=True
    )
    values = localize(base, "somebody/tuned@v1", geometry=PLAIN).values
    np.testing.assert_array_equal(values, scored(base, task))
    localize(base, "somebody/tuned", geometry=PLAIN)
    assert asked == [("somebody/tuned", "v1"), ("somebody/tuned", "main")]


def test_a_task_stored_too_coarsely_is_warned_about(base, tmp_path, caplog):
    rounded = {n: t.bfloat16() for n, t in moved(weights(), 2e-3).items()}
    task = save(rounded, tmp_path / "task.safetensors")
    with caplog.at_level(logging.WARNING):
        scores = localize(base, task, geometry=PLAIN)
    (record,) = [r for r in caplog.records if r.name.startswith("alps")]
    assert record.getMessage() == scores.provenance["warning"]
    assert record.getMessage().startswith("the task checkpoint is stored as BF16")
    assert 0 < scores.provenance["entries_changed"] < 1


def test_a_float32_task_is_never_warned_about(base, task, caplog):
    with caplog.at_level(logging.WARNING):
        scores = localize(base, task, geometry=PLAIN)
    assert scores.provenance["warning"] is None and not caplog.records
