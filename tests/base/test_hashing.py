import json
import os
from pathlib import Path

import pytest

from alps.base.hashing import digest, file_hash, folder_hash

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256sum of "hello"


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def memory(own_cache: Path) -> Path:
    (path,) = (own_cache / "hashes").iterdir()
    return path


def test_file_hash_is_sha256(tmp_path, own_cache):
    path = tmp_path / "file"
    path.write_text("hello")
    assert file_hash(path) == HELLO


def test_file_hash_remembers(tmp_path, own_cache):
    path = tmp_path / "file"
    path.write_text("hello")
    file_hash(path)
    remembered = json.loads(memory(own_cache).read_text())
    memory(own_cache).write_text(json.dumps({**remembered, "sha256": "from memory"}))
    assert file_hash(path) == "from memory"
    (tmp_path / "link").symlink_to(path)
    assert file_hash(tmp_path / "link") == "from memory"


def test_file_hash_notices_an_edit_of_the_same_size(tmp_path, own_cache):
    path = tmp_path / "file"
    path.write_text("jello")
    before = file_hash(path)
    later = path.stat().st_mtime_ns + 1_000_000
    path.write_text("hello")
    os.utime(path, ns=(later, later))
    assert file_hash(path) == HELLO != before


def test_file_hash_notices_another_size_at_the_same_time(tmp_path, own_cache):
    path = tmp_path / "file"
    path.write_text("hello!")
    file_hash(path)
    time = path.stat().st_mtime_ns
    path.write_text("hello")
    os.utime(path, ns=(time, time))
    assert file_hash(path) == HELLO


@pytest.mark.parametrize("damage", ["", "{", "{}", '{"stamp": 1}'])
def test_a_damaged_memory_is_made_again(tmp_path, own_cache, damage):
    path = tmp_path / "file"
    path.write_text("hello")
    file_hash(path)
    memory(own_cache).write_text(damage)
    assert file_hash(path) == HELLO
    assert json.loads(memory(own_cache).read_text())["sha256"] == HELLO


def model_folder(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in {"model.safetensors": "w", "config.json": "c", **files}.items():
        (path / name).write_text(text)
    return path


def test_folder_hash_depends_on_content_and_not_on_place(tmp_path):
    first, second = model_folder(tmp_path / "a"), model_folder(tmp_path / "b")
    assert folder_hash(first) == folder_hash(second)
    (second / "README.md").write_text("not part of the model")
    assert folder_hash(first) == folder_hash(second)


@pytest.mark.parametrize(
    "change", [{"model.safetensors": "ww"}, {"config.json": "cc"}, {"tokenizer.model": "t"}]
)
def test_folder_hash_notices_every_file_that_matters(tmp_path, change):
    changed = model_folder(tmp_path / "b", **change)
    assert folder_hash(model_folder(tmp_path / "a")) != folder_hash(changed)


def test_folder_hash_notices_contents_that_changed_places(tmp_path):
    swapped = {"model.safetensors": "c", "config.json": "w"}
    assert folder_hash(model_folder(tmp_path / "a")) != folder_hash(
        model_folder(tmp_path / "b", **swapped)
    )


def test_folder_hash_of_a_file_is_its_own(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_text("hello")
    assert folder_hash(path) == HELLO


def test_digest_ignores_the_order_of_names_but_not_of_values():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(1) != digest("1")
