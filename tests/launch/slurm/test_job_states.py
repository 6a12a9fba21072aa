"""`alps status` and what follows from it, at every state that a job and its run can be in."""

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from alps.execute import execute
from alps.launch.ranks import fit_on_devices
from alps.launch.slurm.settings import Slurm
from alps.launch.slurm.submission import read_attempts
from alps.launch.slurm.submit import missing_entries, submit
from alps.launch.slurm.wait import wait_for_jobs
from alps.runs.folder import RunFolder
from alps.runs.metrics import COLUMNS, read_progress


@pytest.fixture
def states(cli):
    """State and reason of each run as `alps status` prints them, by the start of its key."""

    def read(*arguments: str) -> dict[str, tuple[str, str]]:
        from alps.cli.jobs.status import chosen_states, queue_view, select

        output_dir, entries, filters = select(arguments)
        chosen = chosen_states(queue_view(output_dir), entries, filters)
        return {s.entry.key.split("-")[0]: (s.state, s.reason) for s in chosen}

    return read


@pytest.fixture
def table(make_run, fake_cluster, tmp_path):
    """A task model (7_0), a run without one (7_1), and one that needs it (8_0)."""
    runs = {n: make_run(f"method={n}", "optim.epochs=2") for n in ("full", "random", "alps")}
    submit(missing_entries(runs.values()), Slurm(), tmp_path / "outputs")
    return runs


def test_a_fresh_table_waits_for_resources_and_task_models(table, states):
    assert states() == {
        "full": ("waiting", "Resources"),
        "random": ("waiting", "Resources"),
        "alps": ("blocked", f"by its task model {table['full'].key} (waiting)"),
    }


def test_a_running_job_has_a_node_and_steps(table, cli, fake_cluster):
    fake_cluster.runs("7_1", node="two")
    folder = RunFolder(table["random"].folder)
    folder.write_run(table["random"])
    folder.schedule_path.write_text(json.dumps({"num_steps": 80}))
    rows = [f"{n},1.0,0.1,{10 * n},{1.5 * n}" for n in range(1, 21)]
    folder.metrics_path.write_text("\n".join([",".join(COLUMNS), *rows, ""]))
    progress = read_progress(folder)
    assert progress is not None and (progress.step, progress.num_steps) == (20, 80)
    assert progress.seconds_left == pytest.approx(90)
    (line,) = [text for text in cli("status", check=0).stdout.splitlines() if "random-" in text]
    for word in ("running", "two", "20/80", "2 min", "7_1"):
        assert word in line, line


def test_a_finished_run_is_finished_whatever_the_queue_says(table, states):
    execute(table["full"], fit_on_devices)
    assert states()["full"] == ("finished", "")
    assert states()["alps"][1].startswith("by another job")


def test_a_failed_task_model_blocks_who_needs_it(table, states, fake_cluster):
    folder = RunFolder(table["full"].folder)
    folder.write_run(table["full"])
    folder.set_status("failed", "the loss became nan at step 3")
    fake_cluster.ends("7_0", "FAILED")
    fake_cluster.ends("8_0", "CANCELLED")  # by SLURM: --kill-on-invalid-dep
    assert states()["full"] == ("failed", "the loss became nan at step 3")
    assert states()["alps"] == ("blocked", f"by its task model {table['full'].key} (failed)")


@pytest.mark.parametrize("known", ["NODE_FAIL", None])
def test_a_job_that_is_gone_is_lost(table, states, fake_cluster, known):
    fake_cluster.ends("7_1", known)
    state, reason = states()["random"]
    assert state == "lost" and f"its job 7_1 ended {known or 'without a trace'}" in reason


def test_a_job_that_died_in_the_middle_is_lost(table, states, fake_cluster):
    folder = RunFolder(table["random"].folder)
    folder.write_run(table["random"])
    folder.set_status("running")  # and nobody holds its lock
    fake_cluster.ends("7_1", "OUT_OF_MEMORY")
    assert states()["random"][0] == "lost" and "OUT_OF_MEMORY" in states()["random"][1]


def test_a_failure_of_an_earlier_attempt_is_not_that_of_the_last(
    table, states, cli, fake_cluster, monkeypatch
):
    folder = RunFolder(table["random"].folder)
    folder.write_run(table["random"])
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    folder.set_status("failed", "no space left on device")
    fake_cluster.ends("7_1", "FAILED")
    assert states()["random"] == ("failed", "no space left on device")
    cli("retry", "method=random", check=0)
    assert states()["random"][0] == "waiting"
    fake_cluster.ends("9_0", "NODE_FAIL")
    assert states()["random"][0] == "lost"


def test_a_process_of_another_shell_is_seen(table, states, fake_cluster):
    fake_cluster.ends("7_1")
    folder = RunFolder(table["random"].folder)
    folder.write_run(table["random"])
    with folder.lock():
        folder.set_status("running")
        assert states()["random"][0] == "running"


def test_a_silent_queue_is_no_verdict(table, cli, states, fake_cluster):
    execute(table["full"], fit_on_devices)
    fake_cluster.flag("silent")
    done = cli("status", check=0)
    assert "squeue does not answer (Unable to contact slurm controller)" in done.stderr
    found = states()
    assert found["full"][0] == "finished"
    assert found["random"][0] == found["alps"][0] == "unknown"
    for command in ("cancel", "retry"):
        assert "squeue does not answer" in cli(command, check=1).stderr


def test_relative_files_are_found_from_another_folder(
    make_run, states, fake_cluster, tmp_path, monkeypatch
):
    Path("rows.jsonl").write_text('{"instruction": "a b", "output": "c"}\n' * 8)
    run = make_run("method=full", "data=jsonl", "data.path=rows.jsonl")
    submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert states() == {}, "another outputs folder"
    assert states(f"output_dir={tmp_path}/outputs")["full"] == ("waiting", "Resources")
    (tmp_path / "rows.jsonl").unlink()
    assert states(f"output_dir={tmp_path}/outputs")["full"] == ("waiting", "Resources")
    fake_cluster.ends("7_0")
    state, reason = states(f"output_dir={tmp_path}/outputs")["full"]
    assert state == "unknown" and "rows.jsonl" in reason


def test_filters_are_those_of_alps_runs(table, states, cli):
    assert set(states("state=waiting")) == {"full", "random"}
    assert set(states("method=alps")) == {"alps"}
    assert set(states("random")) == {"random"}
    assert "nothing was submitted" in cli("status", "state=failed", check=0).stdout


def test_an_experiment_lists_runs_that_were_never_submitted(cli, fake_cluster):
    settings = ("experiment=table3", "scale=mini", "model=tiny", "data=mini_math")
    out = cli("status", *settings, check=0).stdout
    assert "6 missing" in out and "full-" in out and "blocked" not in out
    cli("submit", *settings, check=0)
    out = cli("status", *settings, check=0).stdout
    assert "missing" not in out and "waiting" in out and "blocked" in out
    assert "alps-" not in cli("status", *settings, "state=waiting", check=0).stdout


def test_cancelling_a_task_model_cancels_who_needs_it(table, cli, states, fake_cluster):
    out = cli("cancel", "method=full", check=0).stdout
    assert f"cancelled job 7_0: {table['full'].key}" in out
    assert f"{table['alps'].key}, which needs {table['full'].key}" in out
    assert fake_cluster.jobs() == ["7_1"]
    assert states()["full"][0] == states()["alps"][0] == "stopped"
    assert "nothing to cancel" in cli("cancel", "method=full", check=0).stdout


def test_a_retry_submits_what_ended_with_the_settings_it_had(table, cli, states, fake_cluster):
    assert "nothing to retry" in cli("retry", check=0).stdout
    cli("cancel", "method=full", check=0)
    out = cli("retry", "method=alps", "hydra.launcher.mem=64G", check=0).stdout
    assert out.count("job ") == 2, "its task model, too"
    assert states()["alps"] == ("blocked", f"by its task model {table['full'].key} (waiting)")
    task, dependent = fake_cluster.scripts()[-2:]
    assert "--mem=64G" in task and "--mem=64G" in dependent
    assert "--cpus-per-task=4" in task
    assert len(read_attempts("outputs")[table["full"].key]) == 2
    assert "mem=soon" in cli("retry", "hydra.launcher.mem=soon", check=2).stderr


def test_logs_are_those_of_the_last_job(table, cli, fake_cluster, tmp_path):
    (attempt,) = read_attempts(tmp_path / "outputs")[table["random"].key]
    assert "no output yet" in cli("logs", "random", check=0).stderr
    attempt.log.write_text("step 1\n")
    assert cli("logs", table["random"].key, check=0).stdout == "step 1\n"
    assert "3 runs have '-'" in cli("logs", "-", check=2).stderr
    assert "no run" in cli("logs", "lora", check=2).stderr
    assert "takes the key of one run" in cli("logs", check=2).stderr


def test_logs_are_followed_until_the_job_ends(table, cli, fake_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("alps.cli.jobs.logs.POLL_SECONDS", 0.1)
    log = read_attempts(tmp_path / "outputs")[table["random"].key][-1].log
    log.write_text("step 1\n")

    def goes_on():
        time.sleep(0.5)
        with log.open("a") as file:
            file.write("step 2\n")
        fake_cluster.ends("7_1", "COMPLETED")

    thread = threading.Thread(target=goes_on)
    thread.start()
    assert cli("logs", "random", "-f", check=0).stdout == "step 1\nstep 2\n"
    thread.join()


def test_the_waiting_command_waits_until_nobody_is_there(table, fake_cluster, tmp_path, caplog,
                                                         monkeypatch):  # fmt: skip
    """The queue may be silent for a while."""
    asked, ended = [], []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        silent = fake_cluster.state / "silent"
        if len(asked) == 2:
            silent.touch()
        elif len(asked) == 3:
            silent.unlink()
            fake_cluster.ends("7_1", "FAILED")
        elif len(asked) == 4:
            fake_cluster.ends("7_0", "NODE_FAIL")
            fake_cluster.ends("8_0", "CANCELLED")

    monkeypatch.setattr("alps.launch.slurm.wait.time", SimpleNamespace(sleep=sleep))
    entries = missing_entries(table.values())
    with caplog.at_level("INFO"):
        found = wait_for_jobs(entries, tmp_path / "outputs", 1, lambda: ended.append(len(asked)))
    assert ended == [3, 4] and len(asked) == 4
    assert {s.entry.key.split("-")[0]: s.state for s in found} == {
        "full": "lost", "random": "lost", "alps": "blocked",
    }  # fmt: skip
    assert "jobs: 1 blocked, 2 waiting (Resources)" in caplog.text
    assert "does not answer" in caplog.text
