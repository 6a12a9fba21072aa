"""A table with task models, submitted once, twice, by several shells, cancelled and retried."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from slurm_queue import JOB, SMALL, Queue, assert_same, command, num_kept, rows

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300, func_only=True)]
MEDIUM = ("optim.max_steps=40", "optim.epochs=40", "trainer.checkpoint_every_n_steps=1000")


def arrays(queue: Queue) -> list[dict]:
    """Job arrays of all submissions, in order."""
    files = sorted(queue.outputs.glob("jobs/*/arrays.json"))
    return [array for file in files for array in json.loads(file.read_text())]


def trainings(queue: Queue) -> dict[str, tuple[int, str]]:
    """Run -> time and content of its `training.json`."""
    files = queue.outputs.glob("runs/*/training.json")
    return {f.parent.name: (f.stat().st_mtime_ns, f.read_text()) for f in files}


def test_a_failing_task_model_among_six_blocks_its_own_run_only(queue):
    points = ("method=alps,random", "optim.lr=2e-5,1e30", "optim.clip_norm=null")
    out = queue.submit(*points)
    assert sum(array["count"] for array in arrays(queue)) == 6, out  # with two task models
    largest = int(command("scontrol", "show", "config").split("MaxArraySize")[1].split()[1])
    assert all(array["count"] <= largest for array in arrays(queue))
    if largest < 4:  # as of make test-slurm; without dependency there are four
        assert [array["count"] for array in arrays(queue)] == [largest, 4 - largest, 1, 1]
    queue.until_ended("3 finished, 2 failed, 1 blocked")
    failed, blocked = (
        [s for s in queue.states().values() if s.state == state] for state in ("failed", "blocked")
    )
    assert all("the loss became nan" in state.reason for state in failed)
    assert blocked[0].entry.key.startswith("alps-")
    assert any(blocked[0].reason == f"by its task model {s.entry.key} (failed)" for s in failed)
    for state in failed:
        assert "became nan" in (queue.outputs / "runs" / state.entry.key / "train.log").read_text()
    done = trainings(queue)
    out = queue.submit(*points)
    assert "already finished: 2" in out
    assert sum(array["count"] for array in arrays(queue)) == 6 + 3
    queue.alps("cancel")
    queue.until_ended()
    assert trainings(queue) == done and queue.status("state=finished") == "3 finished"


def test_three_shells_at_once_train_each_run_once(queue):
    """Two that submit, and the command that waits."""
    submit = ("submit", *SMALL, *JOB, "method=alps")
    waiting = ("train", "-m", "hydra/launcher=slurm", *SMALL, *JOB, "method=alps")
    shells = [queue.start(*arguments) for arguments in (submit, submit, waiting)]
    outs = [shell.communicate(timeout=200)[0] for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0, 0], outs
    assert sorted(array["count"] for array in arrays(queue)) == [1, 1], outs
    assert any("already queued: full-" in out or "nothing to submit" in out for out in outs)
    assert queue.until_ended() == "2 finished"
    done = trainings(queue)
    assert "nothing to submit" in queue.submit("method=alps")
    assert len(arrays(queue)) == 2 and trainings(queue) == done


def test_a_job_whose_shell_was_killed_is_adopted(queue, tmp_path):
    """The shell dies when sbatch has answered, before it writes the id."""
    (tmp_path / "bin").mkdir()
    killer = tmp_path / "bin" / "sbatch"
    killer.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@" >/dev/null\nkill -9 $PPID\n')
    killer.chmod(0o755)
    path = f"{killer.parent}:{os.environ['PATH']}"
    shell = queue.start("submit", *SMALL, *JOB, "method=alps", PATH=path)
    shell.communicate(timeout=60)
    assert shell.returncode == -signal.SIGKILL
    assert [array["job"] for array in arrays(queue)] == [None]
    (job,) = queue.queued()
    assert queue.only().job == job and queue.only().queued
    out = queue.submit("method=alps")
    assert f"({job})" in out.split("already queued: full-")[1].splitlines()[0]
    queue.until_ended("2 finished")
    assert len(arrays(queue)) == 2 and len(list(queue.outputs.glob("jobs/*/*.log"))) == 2


@pytest.mark.parametrize("how", ["alps cancel", "scancel"])
def test_a_cancelled_task_model_goes_on_and_so_do_its_dependents(queue, uninterrupted, how):
    queue.submit("method=alps", *MEDIUM)
    run = queue.until_trained(5)
    task, dependent = run.name, next(k for k in queue.states() if k.startswith("alps"))
    job = queue.states()[task].job
    if how == "scancel":
        command("scancel", job)
        assert queue.until_ended() == "1 stopped, 1 blocked"
        assert queue.states()[dependent].reason == f"by its task model {task} (stopped)"
    else:
        out = queue.alps("cancel", "method=full")
        assert f"cancelled job {job}: {task}\n" in out
        assert f"{dependent}, which needs {task}" in out
        assert queue.until_ended() == "2 stopped"
    before = rows(run)
    assert len(before) >= 5 and not queue.queued()
    out = queue.alps("retry")
    assert "1 of 2" in out
    assert queue.until_ended() == "2 finished"
    assert num_kept(before, run) == len(before)
    reference = uninterrupted("method=alps", *MEDIUM)
    for name in (task, dependent):
        assert_same(queue.outputs / "runs" / name, reference)
    assert {s.attempt for s in queue.states().values()} == {2}
    assert "nothing to retry" in queue.alps("retry")


def test_the_first_failure_may_cancel_the_others(queue):
    """With the waiting command, which tells both."""
    points = ("method=full", "optim.lr=2e-5,1e30", "optim.clip_norm=null", "fail_fast=true")
    long = ("optim.epochs=1000", "trainer.checkpoint_every_n_steps=1000")
    arguments = ("train", "-m", "hydra/launcher=slurm", *SMALL, *JOB, *points, *long)
    shell = queue.start(*arguments)
    out = shell.communicate(timeout=150)[0]
    assert shell.returncode == 1 and "Traceback" not in out, out
    errors = [line for line in out.splitlines() if line.startswith("error: full-")]
    assert len(errors) == 2 and sum("the loss became nan" in line for line in errors) == 1, out
    assert queue.until_ended() == "1 stopped, 1 failed"


def test_a_refusal_of_the_cluster_leaves_nothing(queue):
    out = queue.submit("method=full,random", "hydra.launcher.partition=none", check=1)
    assert "nvalid partition" in out
    assert arrays(queue) == [] and not queue.queued()
    assert not list(Path(queue.outputs).glob("runs/*"))
