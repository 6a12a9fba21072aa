import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alps.base.cache import cache_dir
from alps.config.build import build, compose_config, model_choice
from alps.execute import execute
from alps.heads.head_set import HeadSet
from alps.localization.engine import localize
from alps.models.architecture import qkv_names, read_geometry
from alps.models.checkpoint import materialize
from alps.pipeline.checkpoints import ResolvedCheckpoint, resolve_checkpoint
from alps.runs.folder import RunFolder
from alps.settings.run import Run
from alps.training.fit import fit

SMALL = ("model=tiny", "evals=none", "data.max_examples=8", "trainer.progress=off")


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("places") / "outputs"


def trained(output_dir: Path, *settings: str) -> Run:
    """A run that has finished; the second time it is only looked up."""
    run = build(compose_config([*SMALL, f"output_dir={output_dir}", *settings]))
    execute(run, fit)
    return run


def look(text: str, output_dir: Path = Path("outputs")) -> ResolvedCheckpoint:
    return resolve_checkpoint("task", text, output_dir, model_choice)


def refusal(text: str, output_dir: Path = Path("outputs")) -> str:
    with pytest.raises(ValueError) as error:
        look(text, output_dir)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_and_a_file_are_themselves(tmp_path):
    file = tmp_path / "m" / "model.safetensors"
    file.parent.mkdir()
    save_file({"a": torch.zeros(1)}, file)
    folder, single = look(str(file.parent)), look(str(file))
    assert (folder.path, single.path) == (file.parent, file)
    assert folder.geometry is single.geometry is None
    assert look("m").path == Path("m") and look("m").identity == folder.identity
    assert look(f"{file.parent}/").identity == folder.identity


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    assert look("~/m").path == tmp_path / "m"


def test_another_content_or_place_has_another_identity(tmp_path):
    file = tmp_path / "m" / "model.safetensors"
    file.parent.mkdir()
    save_file({"a": torch.zeros(1)}, file)
    before = look("m").identity
    assert look("m").identity == before
    shutil.copytree("m", "copy")
    assert look("copy").identity != before
    later = file.stat().st_mtime_ns + 10**9
    os.utime(file, ns=(later, later))
    touched = look("m").identity
    save_file({"a": torch.zeros(2)}, file)
    assert len({before, touched, look("m").identity}) == 3


def test_a_run_is_found_by_key_and_by_folder(output_dir):
    run = trained(output_dir, "method=full")
    by_key, by_folder = look(run.key, output_dir), look(str(run.folder))
    assert by_key == by_folder
    assert by_key.path == RunFolder(run.folder).weights_path and by_key.identity == run.key
    assert by_key.geometry == read_geometry(materialize(run.model))
    assert load_file(by_key.path).keys() >= set(qkv_names(0))


def test_a_run_folder_may_have_moved(output_dir, tmp_path):
    run = trained(output_dir, "method=full")
    moved = tmp_path / "elsewhere"
    shutil.copytree(output_dir, moved)
    here = look(str(moved / "runs" / run.key))
    assert here.path.is_relative_to(moved) and here.identity == run.key
    assert look(run.key, moved) == here


def test_the_rows_of_a_run_are_merged_into_whole_projections(output_dir):
    """Only the heads that trained have moved."""
    heads = ("method=random", "ratio=0.2", "scope=heads_only", "method.kv_policy=none")
    run = trained(output_dir, *heads)
    place = look(run.key, output_dir)
    assert place.path.name == "qkv.safetensors"
    scores = localize(materialize(run.model), place.path)
    moved = [tuple(head) for head in torch.from_numpy(scores.values).nonzero().tolist()]
    assert tuple(moved) == HeadSet.read(RunFolder(run.folder).heads_path).heads
    stamp = place.path.stat().st_mtime_ns
    assert look(run.key, output_dir).path.stat().st_mtime_ns == stamp


def test_a_run_without_weights_says_what_to_do(make_run):
    run = make_run("method=full")
    RunFolder(run.folder).write_run(run)
    expected = f"{run.folder} has no trained weights yet: train it first"
    assert refusal(str(run.folder)) == expected
    assert refusal(run.key, Path(run.output_dir)) == expected


def test_a_choice_of_model_is_made_and_named_by_its_content():
    place = look("tiny")
    model = model_choice("tiny")
    assert place == ResolvedCheckpoint(materialize(model), model.fingerprint())


def test_a_folder_goes_before_a_choice_of_the_same_name(tmp_path):
    (tmp_path / "tiny").mkdir()
    assert look("tiny").path == Path("tiny")


def test_a_hub_id_is_fetched_with_progress(monkeypatch):
    asked = []
    copy = cache_dir() / "qkv" / "org--name@0123"
    monkeypatch.setattr("alps.models.hub.fetch_qkv", lambda *about: asked.append(about) or copy)
    report = print
    place = resolve_checkpoint("base", "org/name@v2", Path("outputs"), model_choice, report)
    assert place == ResolvedCheckpoint(copy, "hub qkv/org--name@0123")
    look("org/name")
    assert asked == [("org/name", "v2", report), ("org/name", "main", None)]


def test_a_hub_id_that_cannot_be_reached_is_one_sentence():
    assert refusal("nobody/nothing").startswith("nobody/nothing@main cannot be fetched (HF_HUB_OFF")


@pytest.mark.parametrize("text", ["no-such-thing", "./no/such/folder", "/no/such/folder", "a b/c"])
def test_what_is_nothing_is_told_with_all_it_could_be(text):
    expected = f"task={text} is no folder or safetensors file, no run in outputs/runs, no choice in"
    assert refusal(text).startswith(expected)
