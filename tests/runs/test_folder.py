import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alps.base.atomic import write_text
from alps.base.lock import Owner
from alps.runs.folder import RunFolder, find_run, list_runs

METHODS = (
    "alps", "kl", "euclidean", "cosine", "random", "layer_consistent", "lora", "full", "no_attn",
)  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_run_yaml_survives_for_every_method(make_run, method):
    run = make_run(f"method={method}", "evals=mini", "optim.lr=2e-5", "optim.clip_norm=null")
    folder = RunFolder(run.folder)
    folder.write_run(run)
    assert folder.read_run() == run
    assert folder.read_run().key == run.key == folder.path.name


@pytest.mark.parametrize("choice", ["sft", "fewer_data", "fewer_params", "lora", "readily"])
def test_run_yaml_survives_for_every_task_model(make_run, choice):
    path = ["task_model.path=org/name"] if choice == "readily" else []
    run = make_run(f"task_model={choice}", *path)
    folder = RunFolder(run.folder)
    folder.write_run(run)
    assert folder.read_run() == run


def test_run_yaml_survives_for_a_file_of_rows(make_run, tmp_path):
    rows = tmp_path / "wörter.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    run = make_run("data=jsonl", f"data.path='{rows}'", "data.max_examples=null")
    folder = RunFolder(run.folder)
    folder.write_run(run)
    assert folder.read_run() == run


def test_run_yaml_is_read_where_it_names_classes_by_the_module_they_once_had(make_run):
    run = make_run("evals=mini")
    folder = RunFolder(run.folder)
    folder.write_run(run)
    text = folder.settings_path.read_text()
    assert text.count("alps.settings.infrastructure.") == 3, "trainer, logger, evals"
    folder.settings_path.write_text(
        text.replace("alps.settings.infrastructure.", "alps.settings.run.")
    )
    assert folder.read_run() == run


def folders(tmp_path: Path, *keys: str) -> Path:
    for key in keys:
        write_text(tmp_path / "runs" / key / "run.yaml", "")
    return tmp_path


def test_outputs_are_those_around_the_folder_however_it_came_there(make_run, tmp_path, monkeypatch):
    run = make_run("method=alps")
    RunFolder(run.folder).write_run(run)
    (tmp_path / "far").mkdir()
    shutil.copytree(tmp_path / "outputs", tmp_path / "far/copy")
    read = find_run(tmp_path / "far/copy", run.key).read_run()
    assert read.folder == tmp_path / "far/copy/runs" / run.key and read.key == run.key
    assert read.task_run().folder.parent == read.folder.parent
    shutil.move(tmp_path / "outputs", tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "far")
    assert find_run(Path("../moved"), run.key).read_run().output_dir == str(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved/runs" / run.key)
    assert RunFolder(Path(".")).read_run().output_dir == str(tmp_path / "moved")


def test_an_output_dir_that_still_holds_is_read_as_it_was_written(make_run, tmp_path):
    """Also through links: workers compare folders by their names."""
    run = make_run(output_dir="outputs")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/runs").symlink_to(tmp_path / "elsewhere")
    RunFolder(run.folder).write_run(run)
    assert RunFolder(run.folder).read_run().output_dir == "outputs"
    assert RunFolder(tmp_path / run.folder).read_run().output_dir == "outputs"


def test_a_folder_whose_run_has_another_key_by_now_says_so(make_run, monkeypatch):
    run = make_run("method=full")
    folder = RunFolder(run.folder)
    folder.write_run(run)
    assert folder.outdated_reason(folder.read_run()) is None
    monkeypatch.setattr("alps.settings.run.ALGORITHM_VERSION", 0)
    assert "was trained by another version of alps" in folder.outdated_reason(folder.read_run())


def test_find_run_takes_any_unique_part(tmp_path):
    output_dir = folders(tmp_path, "alps-abc123", "full-abd456")
    for part in ("alps", "abc", "c123", "alps-abc123"):
        assert find_run(output_dir, part).path.name == "alps-abc123"


def test_find_run_takes_a_whole_key_that_is_a_part_of_another(tmp_path):
    output_dir = folders(tmp_path, "alps-abc", "alps-abcdef")
    assert find_run(output_dir, "alps-abc").path.name == "alps-abc"


def test_find_run_refuses_what_is_ambiguous_and_names_them(tmp_path):
    output_dir = folders(tmp_path, "alps-abc123", "full-abc456")
    with pytest.raises(ValueError, match=r"2 runs in .* 'abc' .*: alps-abc123, full-abc456"):
        find_run(output_dir, "abc")


def test_find_run_refuses_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"no run in .*runs has 'xyz' in its key; `alps runs`"):
        find_run(folders(tmp_path, "alps-abc123"), "xyz")
    with pytest.raises(ValueError, match="no run"):
        find_run(tmp_path / "nothing", "xyz")


def test_list_runs_sorts_and_skips_folders_without_settings(tmp_path):
    folders(tmp_path, "b-1", "a-2")
    (tmp_path / "runs" / "c-3").mkdir()
    assert [f.path.name for f in list_runs(tmp_path)] == ["a-2", "b-1"]


def test_heads_are_read_only_if_a_method_chose_some(tmp_path):
    assert RunFolder(tmp_path).read_heads() is None


def test_the_status_is_what_was_written(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.status()["state"] == "unknown"
    folder.set_status("failed", "the loss is nan")
    assert (folder.status()["state"], folder.status()["reason"]) == ("failed", "the loss is nan")
    folder.set_status("finished")
    assert (folder.status()["state"], folder.status()["reason"]) == ("finished", None)


@pytest.mark.parametrize(
    "text",
    ["", '{"state"', "[]", "{}", "null", '{"state": 5}', '{"state": "failed", "reason": ["x"]}'],
)
def test_a_damaged_status_is_unknown(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    assert RunFolder(tmp_path).status()["state"] == "unknown"


def test_a_running_status_that_nobody_holds_is_stopped(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.lock():
        folder.set_status("running")
        assert folder.is_locked()
        assert folder.status()["state"] == "running"
    assert not folder.is_locked()
    assert folder.status()["state"] == "stopped"
    assert folder.status()["reason"]


HOLD = """
import socket, sys
from pathlib import Path
from alps.runs.folder import RunFolder
if host := sys.argv[2]:
    socket.gethostname = lambda: host
with RunFolder(Path(sys.argv[1])).lock(on_wait=lambda: print("waiting", flush=True)):
    print("in", flush=True)
    sys.stdin.readline()
"""


def other_process(path: Path, host: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path), host]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_second_process_waits_until_the_first_is_done(tmp_path):
    with RunFolder(tmp_path).lock():
        other = other_process(tmp_path)
        assert other.stdout and other.stdout.readline() == "waiting\n"
        assert other.poll() is None
    assert other.stdout.readline() == "in\n"
    assert RunFolder(tmp_path).is_locked()
    other.communicate("\n", timeout=60)
    assert other.returncode == 0


def test_a_process_that_is_killed_lets_go_of_its_run(tmp_path):
    folder = RunFolder(tmp_path)
    other = other_process(tmp_path)
    assert other.stdout and other.stdout.readline() == "in\n"
    folder.set_status("running")
    assert folder.status()["state"] == "running"
    other.kill()
    other.communicate(timeout=60)
    assert folder.status()["state"] == "stopped"


def test_a_run_of_a_node_that_does_not_answer_is_stopped_and_names_it(tmp_path):
    folder = RunFolder(tmp_path)
    other = other_process(tmp_path, "node2")
    assert other.stdout and other.stdout.readline() == "in\n"
    folder.set_status("running")
    other.kill()
    other.communicate(timeout=60)
    assert folder.lock_owner() == Owner("node2", other.pid, alive=True)
    assert folder.status()["state"] == "running"
    os.utime(tmp_path / ".lock", (0, 0))
    assert not folder.is_locked()
    assert folder.status()["state"] == "stopped"
    assert folder.status()["reason"] == (
        "node node2 does not answer any more; the same command goes on from here"
    )
    folder.set_status("failed", "the loss is nan")
    assert folder.status()["reason"] == "the loss is nan"


def test_an_empty_lock_of_an_earlier_version_means_nothing(tmp_path):
    folder = RunFolder(tmp_path)
    folder.set_status("running")
    (tmp_path / ".lock").touch()
    os.utime(tmp_path / ".lock", (0, 0))
    assert folder.status()["reason"] == "ended without finishing"
    with folder.lock(on_wait=pytest.fail):
        assert folder.status()["state"] == "running"
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_the_lock_is_released_when_the_block_raises(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(KeyError), folder.lock():
        raise KeyError
    assert not folder.is_locked()


def test_partial_files_and_folders_of_killed_processes_are_deleted(tmp_path):
    folder = RunFolder(tmp_path)
    shards = tmp_path / "checkpoint" / "step-3.tmp"
    shards.mkdir(parents=True)
    (shards / "__0_0.distcp").touch()
    (tmp_path / "weights.tmp").touch()
    (tmp_path / "kept").touch()
    folder.remove_partial_files()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "kept"]
    assert not list((tmp_path / "checkpoint").iterdir())
