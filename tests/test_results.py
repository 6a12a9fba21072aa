import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alps.results import (
    SCHEMA_VERSION,
    Result,
    RunFailed,
    RunFolder,
    find_run,
    git_state,
    list_runs,
    replacing,
    versions,
    write_json,
    write_text,
)

METHODS = (
    "alps", "kl", "euclidean", "cosine", "random", "layer_consistent", "lora", "full", "no_attn",
)  # fmt: skip
RESULT = Result(
    key="alps-0123456789ab",
    model="tiny",
    data="mini_math",
    method="alps",
    ratio=0.1,
    scope="rest_trains",
    seed=0,
    num_trainable=1234,
    trainable_fraction=0.5,
    train_seconds=1.25,
    evals={"held_out": {"loss": 0.1 + 0.2}},
    data_hash="d",
    base_hash="b",
)


def test_replacing_writes_the_whole_file(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.read_text() == "new"


def test_a_block_that_raises_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_text_is_written_in_utf_8_whatever_the_locale(tmp_path):
    code = (
        "import sys, pathlib, alps.results as r; r.write_text(pathlib.Path(sys.argv[1]), '\\u2014')"
    )
    latin = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    path = tmp_path / "table.md"
    subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ, **latin}, check=True)
    assert path.read_bytes() == "—".encode()


def test_a_result_survives_its_file(tmp_path):
    path = tmp_path / "result.json"
    RESULT.write(path)
    assert Result.read(path) == RESULT
    assert json.loads(path.read_text())["schema_version"] == SCHEMA_VERSION


def test_a_result_records_where_it_came_from():
    assert {"alps", "torch", "transformers"} <= set(RESULT.versions)
    assert RESULT.versions == versions()
    assert (RESULT.git_commit, RESULT.git_dirty) == git_state()
    assert RESULT.finished_at.endswith("Z")


def test_a_result_with_fields_we_do_not_know_is_read(tmp_path):
    path = tmp_path / "result.json"
    RESULT.write(path)
    write_json(path, {**json.loads(path.read_text()), "from_the_future": 1})
    assert Result.read(path) == RESULT


@pytest.mark.parametrize("text", ["", '{"key": "alps-'])
def test_a_damaged_result_is_one_sentence(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(RunFailed, match=r"result\.json is damaged"):
        Result.read(path)


def test_a_result_that_lacks_fields_is_one_sentence(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"schema_version": SCHEMA_VERSION, "key": "x"})
    with pytest.raises(RunFailed, match=r"result\.json is damaged"):
        Result.read(path)


@pytest.mark.parametrize("schema", [0, SCHEMA_VERSION + 1, None])
def test_a_result_of_another_schema_is_one_sentence(tmp_path, schema):
    path = tmp_path / "result.json"
    replace(RESULT, schema_version=schema).write(path)
    with pytest.raises(RunFailed, match=rf"has schema {schema}, this version reads"):
        Result.read(path)


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


def folders(tmp_path: Path, *keys: str) -> Path:
    for key in keys:
        write_text(tmp_path / "runs" / key / "run.yaml", "")
    return tmp_path


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


@pytest.mark.parametrize("text", ["", '{"state"'])
def test_a_damaged_status_is_unknown(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    assert RunFolder(tmp_path).status()["state"] == "unknown"


def test_a_running_status_that_nobody_holds_is_stopped(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.lock():
        folder.set_status("running")
        assert folder.locked()
        assert folder.status()["state"] == "running"
    assert not folder.locked()
    assert folder.status()["state"] == "stopped"
    assert folder.status()["reason"]


HOLD = """
import sys
from pathlib import Path
from alps.results import RunFolder
with RunFolder(Path(sys.argv[1])).lock(waiting=lambda: print("waiting", flush=True)):
    print("in", flush=True)
    sys.stdin.readline()
"""


def other_process(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_second_process_waits_until_the_first_is_done(tmp_path):
    with RunFolder(tmp_path).lock():
        other = other_process(tmp_path)
        assert other.stdout and other.stdout.readline() == "waiting\n"
        assert other.poll() is None
    assert other.stdout.readline() == "in\n"
    assert RunFolder(tmp_path).locked()
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


def test_the_lock_is_released_when_the_block_raises(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(KeyError), folder.lock():
        raise KeyError
    assert not folder.locked()
