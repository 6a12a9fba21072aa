"""A job goes back into the queue: for its time limit, for the user, or for another job."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from slurm_queue import LONG, assert_same, command, job_field, num_kept, processes, rows

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300, func_only=True)]


def interrupt(queue, how: str) -> None:
    """Has the only job interrupted, as `how` says."""
    if how == "scontrol requeue":
        command("scontrol", "requeue", queue.only().job)
    elif how == "SIGUSR2":  # as SLURM sends before the time limit, to every process of the job
        command("scancel", "--signal=USR2", queue.only().job)
    else:
        queue.sbatch("--partition=urgent", "--nodelist=two", "--exclusive", "--wrap=sleep 1")


@pytest.fixture
def node(request, how: str) -> str:
    """Preemption takes a whole node."""
    if how in ("scontrol requeue", "SIGUSR2"):
        return "one"
    request.getfixturevalue("node_two")
    return "two"


@pytest.mark.parametrize(
    ("how", "devices"),
    [("scontrol requeue", 1), ("SIGUSR2", 2), ("preemption", 1), ("preemption", 2),
     ("with grace", 1), ("with grace", 2)],
)  # fmt: skip
def test_a_requeued_training_repeats_no_step(queue, uninterrupted, node, how, devices):
    """All of them send a signal first, which has a checkpoint written."""
    settings = (*LONG, f"trainer.devices={devices}")
    partition = "short-grace" if how == "with grace" else "tests"
    queue.submit(*settings, f"hydra.launcher.partition={partition}", node=node)
    run = queue.until_trained(7)
    job = queue.only().job
    interrupt(queue, how)
    queue.until_pending(job)
    before, state = rows(run), queue.only()
    assert (state.state, state.job) == ("waiting", job) and "1 waiting" in queue.status()
    queue.until_ended("1 finished")
    assert job_field(job, "Restarts") == "1"
    assert len(before) < 60 and num_kept(before, run) == len(before)
    assert_same(run, uninterrupted(*settings))


def test_a_task_model_that_is_requeued_keeps_its_dependents(queue):
    """Its job has ended for a moment, which does not count as a failure."""
    queue.submit("method=alps", "optim.max_steps=30", "optim.epochs=10")
    run = queue.until_trained(3, "full-*")
    job = queue.states()[run.name].job
    command("scontrol", "requeue", job)
    queue.until_pending(job)
    assert queue.status() in ("1 waiting, 1 blocked", "1 blocked, 1 waiting")
    queue.until_ended("2 finished")
    assert {state.attempt for state in queue.states().values()} == {1}


def test_the_real_time_limit(queue, uninterrupted):
    """The training is suspended until SLURM's signal, which comes up to a minute early."""
    queue.submit(*LONG, "hydra.launcher.time=1", "hydra.launcher.signal_seconds=15")
    run = queue.until_trained(7)
    job = queue.only().job
    (process,) = processes("python", "alps.launch.slurm.job", cwd=queue.folder)
    os.kill(process, signal.SIGSTOP)
    try:
        queue.until(lambda: was_sent(process, signal.SIGUSR2))
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
    queue.until_pending(job)
    command("scontrol", "update", f"JobId={job}", "TimeLimit=10")  # once is enough
    before = rows(run)
    queue.until_ended("1 finished")
    assert job_field(job, "Restarts") == "1"
    assert len(before) < 60 and num_kept(before, run) == len(before)
    assert_same(run, uninterrupted(*LONG, "trainer.devices=1"))


def was_sent(process: int, number: int) -> bool:
    """Whether a suspended process has been sent this signal; SLURM may also continue it."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True
    pending = [int(line.split()[1], 16) for line in status.splitlines() if "Pnd:" in line]
    return any(mask >> (number - 1) & 1 for mask in pending)


def test_a_time_limit_reached_too_often_is_a_failure(queue):
    queue.submit(*LONG, "hydra.launcher.max_timeouts=0")
    run = queue.until_trained(7)
    interrupt(queue, "SIGUSR2")
    queue.until_ended("1 failed")
    assert "hydra.launcher.max_timeouts=0" in queue.only().reason
    before = rows(run)
    queue.alps("retry", "hydra.launcher.max_timeouts=1")
    queue.until_ended("1 finished")
    assert num_kept(before, run) == len(before) >= 7
