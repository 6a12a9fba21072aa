import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from alps.heads.geometry import Geometry
from alps.localization import cache as remember
from alps.localization.cache import CheckpointPair, localize_cached
from alps.localization.engine import localize
from alps.models.architecture import qkv_names
from alps.scores import non_default_options

GEOMETRY = Geometry(num_layers=2, num_heads=4, num_kv_heads=2, head_dim=2)


@pytest.fixture
def pair(tmp_path: Path) -> CheckpointPair:
    generator = torch.Generator().manual_seed(0)
    rows = {n: 8 if "q_proj" in n else 4 for layer in range(2) for n in qkv_names(layer)}
    base = {n: torch.randn(r, 6, generator=generator) for n, r in rows.items()}
    task = {n: t + 0.01 * torch.randn(t.shape, generator=generator) for n, t in base.items()}
    for name, tensors in (("base", base), ("task", task)):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    places = {n: tmp_path / f"{n}.safetensors" for n in ("base", "task")}
    return CheckpointPair(**places, base_hash="b", task_hash="t", geometry=GEOMETRY)


@pytest.fixture
def computed(monkeypatch) -> list[list[str]]:
    """The metrics of each call that computed something."""
    calls: list[list[str]] = []
    original = remember.localize_metrics

    def counting(base, task, metrics, **settings):
        calls.append(list(metrics))
        return original(base, task, metrics, **settings)

    monkeypatch.setattr(remember, "localize_metrics", counting)
    return calls


OUTPUTS = Path("outputs")  # below the test's own folder


def folders() -> list[str]:
    return sorted(p.name for p in (OUTPUTS / "scores").iterdir())


def test_the_first_call_is_localize_and_names_its_files(pair, computed):
    found = localize_cached(OUTPUTS, pair, ["pad", "kl"])
    assert list(found) == ["pad", "kl"] and computed == [["pad", "kl"]]
    for metric, scores in found.items():
        expected = localize(pair.base, pair.task, metric, geometry=GEOMETRY)
        np.testing.assert_array_equal(scores.values, expected.values)
        assert (scores.metric, scores.base_hash, scores.task_hash) == (metric, "b", "t")
    folder = pair.folder(OUTPUTS)
    assert folder.parent == OUTPUTS / "scores" and folder.name.startswith("pair-")
    tables = load_numpy(folder / "scores.safetensors")
    assert {n: (t.dtype, t.shape) for n, t in tables.items()} == dict.fromkeys(
        ("pad", "kl"), (np.float64, (2, 4))
    )
    about = json.loads((folder / "scores.json").read_text())
    assert (about["base_hash"], about["task_hash"]) == ("b", "t")
    assert about["geometry"] == asdict(GEOMETRY) and set(about["metrics"]) == {"pad", "kl"}


def test_the_second_call_computes_and_reads_nothing(pair, computed):
    first = localize_cached(OUTPUTS, pair, ["pad"])["pad"]
    pair.base.unlink()
    pair.task.unlink()
    again = localize_cached(OUTPUTS, pair, ["pad"])["pad"]
    assert len(computed) == 1
    np.testing.assert_array_equal(again.values, first.values)
    assert again.values.dtype == np.float64
    assert replace(again, values=first.values) == first


def test_one_more_metric_is_added_and_the_others_stay(pair, computed):
    first = localize_cached(OUTPUTS, pair, ["pad"])["pad"]
    both = localize_cached(OUTPUTS, pair, ["cosine", "pad"])
    assert computed == [["pad"], ["cosine"]]
    assert list(both) == ["cosine", "pad"]
    np.testing.assert_array_equal(both["pad"].values, first.values)
    assert set(load_numpy(pair.folder(OUTPUTS) / "scores.safetensors")) == {"cosine", "pad"}
    assert list(localize_cached(OUTPUTS, pair, ["cosine"])) == ["cosine"]
    assert len(computed) == 2 and len(folders()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"base_hash": "x"},
        {"task_hash": "x"},
        {"matrix": "concat"},
        {"bias": "include"},
        {"compat": "authors"},
        {"options": {"tau": 2.0}},
        {"options": {"ground": "weights"}},
    ],
)
def test_anything_else_compared_has_a_folder_of_its_own(pair, computed, change):
    localize_cached(OUTPUTS, pair, ["pad"])
    other = replace(pair, **change)
    values = localize_cached(OUTPUTS, other, ["pad"])["pad"].values
    assert computed == [["pad"], ["pad"]] and len(folders()) == 2
    expected = {k: v for k, v in change.items() if k in ("matrix", "bias", "compat")}
    expected |= change.get("options", {})
    np.testing.assert_array_equal(
        values, localize(pair.base, pair.task, geometry=GEOMETRY, **expected).values
    )


def test_names_and_places_are_for_readers_and_no_part_of_the_folder(pair, tmp_path):
    named = replace(pair, base_name="llama", task_name="llama-math", base=tmp_path / "elsewhere")
    assert named.folder(OUTPUTS) == pair.folder(OUTPUTS)
    named = replace(named, base=pair.base)
    about = localize_cached(OUTPUTS, named, ["pad"])["pad"].provenance
    assert (about["base"], about["task"]) == ("llama", "llama-math")
    again = localize_cached(OUTPUTS, named, ["pad"])["pad"].provenance
    assert again == about


def test_scores_are_called_as_their_caller_calls_the_models(pair, computed):
    localize_cached(OUTPUTS, pair, ["pad"])
    named = replace(pair, base_name="smollm2", task_name="full-1")
    for _ in range(2):
        found = localize_cached(OUTPUTS, named, ["pad"])["pad"].provenance
        assert (found["base"], found["task"]) == ("smollm2", "full-1")
    assert computed == [["pad"]]


def test_default_options_given_explicitly_are_the_same_folder(pair):
    given = replace(pair, options=non_default_options({"tau": 1.0, "ground": "index"}, ["pad"]))
    assert given.folder(OUTPUTS) == pair.folder(OUTPUTS)


def test_options_are_recorded_whole_and_each_metric_gets_its_own(pair):
    other = replace(pair, options={"tau": 2.0, "ground": "weights", "direction": "task_base"})
    found = localize_cached(OUTPUTS, other, ["pad", "kl", "cosine"])
    assert found["pad"].provenance["options"] == {"tau": 2.0, "ground": "weights"}
    assert found["kl"].provenance["options"] == {"tau": 2.0, "direction": "task_base"}
    assert found["cosine"].provenance["options"] == {"of": "distribution"}


def test_scores_of_another_default_are_computed_again_and_the_rest_stay(pair, computed):
    expected = localize_cached(OUTPUTS, pair, ["pad", "cosine"])["cosine"].values
    about_file = pair.folder(OUTPUTS) / "scores.json"
    about = json.loads(about_file.read_text())
    about["metrics"]["cosine"]["options"] = {}  # as an earlier version of the score left it
    about_file.write_text(json.dumps(about))
    tables = load_numpy(pair.folder(OUTPUTS) / "scores.safetensors")
    save_numpy(
        tables | {"cosine": tables["cosine"] + 1}, about_file.with_name("scores.safetensors")
    )
    again = localize_cached(OUTPUTS, pair, ["pad", "cosine"])["cosine"]
    np.testing.assert_array_equal(again.values, expected)
    assert again.provenance["options"] == {"of": "distribution"}
    localize_cached(OUTPUTS, pair, ["pad", "cosine"])
    assert computed == [["pad", "cosine"], ["cosine"]]


def test_the_scores_of_the_authors_script_are_found_again(pair, computed):
    theirs = replace(pair, compat="authors")
    for _ in range(2):
        found = localize_cached(OUTPUTS, theirs, ["pad", "kl", "cosine"])
        assert {tuple(s.provenance["options"]) for s in found.values()} == {()}
    assert computed == [["pad", "kl", "cosine"]]


def truncate(folder: Path) -> None:
    whole = (folder / "scores.safetensors").read_bytes()
    (folder / "scores.safetensors").write_bytes(whole[:-8])


def forget_a_metric(folder: Path) -> None:
    about = json.loads((folder / "scores.json").read_text())
    about["metrics"] = {}
    (folder / "scores.json").write_text(json.dumps(about))


def reshape(folder: Path) -> None:
    save_numpy({"pad": np.ones((3, 4))}, folder / "scores.safetensors")


DAMAGE = {
    "no table": lambda f: (f / "scores.safetensors").unlink(),
    "half a table": truncate,
    "an empty table": lambda f: (f / "scores.safetensors").write_bytes(b""),
    "another table": reshape,
    "no json": lambda f: (f / "scores.json").unlink(),
    "no text": lambda f: (f / "scores.json").write_bytes(b"\xff\xfe"),
    "half a json": lambda f: (f / "scores.json").write_text('{"geometry": {"num_la'),
    "a list": lambda f: (f / "scores.json").write_text("[]"),
    "nothing": lambda f: (f / "scores.json").write_text("{}"),
    "a metric less": forget_a_metric,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_computed_and_written_again(pair, computed, damage):
    first = localize_cached(OUTPUTS, pair, ["pad"])["pad"]
    damage(pair.folder(OUTPUTS))
    for _ in range(2):
        again = localize_cached(OUTPUTS, pair, ["pad"])["pad"]
        np.testing.assert_array_equal(again.values, first.values)
    assert computed == [["pad"], ["pad"]]


def test_two_at_once_end_with_both_metrics(pair):
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(localize_cached, OUTPUTS, pair, [m]) for m in ("pad", "kl")]
        found = {m: s for job in jobs for m, s in job.result().items()}
    tables = load_numpy(pair.folder(OUTPUTS) / "scores.safetensors")
    assert set(tables) == {"pad", "kl"}
    for metric, scores in found.items():
        np.testing.assert_array_equal(tables[metric], scores.values)
    assert not list(OUTPUTS.rglob("*.tmp"))


def test_what_another_process_wrote_meanwhile_is_kept(pair, monkeypatch):
    original = remember.localize_metrics

    def interrupted(*arguments, **settings):
        monkeypatch.setattr(remember, "localize_metrics", original)
        localize_cached(OUTPUTS, pair, ["euclidean"])  # as if by somebody else
        return original(*arguments, **settings)

    monkeypatch.setattr(remember, "localize_metrics", interrupted)
    assert list(localize_cached(OUTPUTS, pair, ["pad"])) == ["pad"]
    assert set(load_numpy(pair.folder(OUTPUTS) / "scores.safetensors")) == {"euclidean", "pad"}


def test_nothing_is_remembered_of_a_refused_pair(pair, tmp_path):
    for refused in (
        replace(pair, task=tmp_path / "gone"),
        replace(pair, task=pair.base),
        replace(pair, options={"tau": 0}),
        replace(pair, compat="authors", options={"tau": 2.0}),
    ):
        with pytest.raises(ValueError):
            localize_cached(OUTPUTS, refused, ["pad"])
    assert not OUTPUTS.exists()


def test_progress_is_told_of_what_is_computed(pair):
    seen = []
    for _ in range(2):
        localize_cached(OUTPUTS, pair, ["pad"], lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
