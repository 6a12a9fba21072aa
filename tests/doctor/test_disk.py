"""Disks that are full, read-only, out of inodes or limited by a quota."""

import os
from pathlib import Path

import pytest

from alps.doctor import disk
from alps.doctor.disk import parse_quota, places_of, quota, space, write_problem

QUOTA = """Disk quotas for user me (uid 1000):
     Filesystem   space   quota   limit   grace   files   quota   limit   grace
storage.lab:/export/home/with/a/long/name
                 19000M*  19000M  20000M   6days    112k       0       0
      /dev/sda1    124K      0K      0K               9       0       0
      /dev/sdb1     12G     90G    100G            9000       0       0
"""
LLAMA = ("model=llama3_2_1b", "data=mini_math", "evals=none", "method=full")


@pytest.fixture
def free(monkeypatch):
    """Sets free bytes and inodes of all disks."""
    real = os.statvfs

    def make(size: int, inodes: int = 10**6) -> None:
        def statvfs(path):
            values = list(real(path))
            values[1], values[4], values[5], values[7] = 1, size, 10**7, inodes
            return os.statvfs_result(values)

        monkeypatch.setattr(disk.os, "statvfs", statvfs)

    return make


def test_outputs_and_caches_share_a_disk(found, make_context, free):
    """Weights of 1.2 G parameters: 20 GB of checkpoint and weights, 2.5 GB to download."""
    outputs, hub, own = places_of(make_context(*LLAMA, tiny=False))
    assert 19e9 < outputs.needed < 21e9 and 2.4e9 < hub.needed < 2.6e9 and own.needed == 0
    free(21 * 10**9)
    findings = found(space, *LLAMA, tiny=False)
    assert [f.state for f in findings] == ["missing", "missing", "ok"]
    assert "21.0 GB free, 19.8 GB needed, 22.2 GB with the others" in findings[0].text
    assert "weights=qkv or drop" in findings[0].remedy and "HF_HOME" in findings[1].remedy
    free(23 * 10**9)
    assert [f.state for f in found(space, *LLAMA, tiny=False)] == ["ok"] * 3


def test_a_full_disk_without_inodes(found, free):
    free(10**12, inodes=30)
    findings = found(space)
    assert findings[0].state == "missing" and "only 30 files (inodes) more" in findings[0].text


def test_a_folder_that_cannot_be_written_to(found, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    findings = found(space, f"output_dir={tmp_path}/file/outputs")
    assert (findings[0].name, findings[0].state) == ("output_dir", "missing")
    assert "cannot be written to" in findings[0].text
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert write_problem(tmp_path / "new" / "folder") is None and not (tmp_path / "new").exists()
    assert write_problem(Path("/proc/new")), "root may write to it, but nobody can"
    assert [f.state for f in found(space)] == ["ok", "ok", "missing"]


def test_what_is_there_is_not_needed_again(make_context):
    context = make_context()
    before = places_of(context)[0].needed
    weights = context.runs[0].folder / "weights"
    weights.mkdir(parents=True)
    (weights / "model.safetensors").write_bytes(b"0" * 1000)
    assert places_of(context)[0].needed == before - 1000 > 0


def test_converted_models_need_space_until_they_are_there(make_context, tmp_path, monkeypatch):
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    assert places_of(make_context("model=smollm2_135m_q4"))[2].needed == 4 * 134515008
    folder = tmp_path / "cache/models/smollm2_135m_q4-0123"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert places_of(make_context("model=smollm2_135m_q4"))[2].needed == 0


def test_quotas(found, command):
    command("quota", f"/bin/cat <<'END'\n{QUOTA}END")
    first, second = found(quota)
    assert first.text == "storage.lab:/export/home/with/a/long/name: 19.9 of 21.0 GB used"
    assert (first.state, second.state) == ("ok", "ok")
    first, second = found(quota, *LLAMA, tiny=False)
    assert first.state == "warning" and "write 19.8 GB to output_dir" in first.text
    assert second.state == "ok"


def test_no_quota_is_no_finding(found, command):
    assert found(quota) == []
    command("quota", "exit 0")
    assert found(quota) == [] and parse_quota("nothing that anybody knows") == []


def test_a_quota_that_does_not_answer(found, command, monkeypatch):
    command("quota", "echo 'quota: Cannot resolve mountpoint' >&2; exit 1")
    assert found(quota) == []
