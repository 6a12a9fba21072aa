"""Something dies: a rank, the batch step, the controller; or the disk is full."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from slurm_queue import LONG, assert_same, command, num_kept, processes, rows

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300, func_only=True)]


def test_a_killed_rank(queue, uninterrupted):
    settings = (*LONG, "trainer.devices=2")
    queue.submit(*settings)
    run = queue.until_trained(7)
    os.kill(processes("python", "alps.launch.worker", cwd=queue.folder)[-1], signal.SIGKILL)
    queue.until_ended("1 failed")
    assert "was killed (SIGKILL)" in queue.only().reason
    goes_on(queue, run, uninterrupted(*settings))


def goes_on(queue, run: Path, reference: Path) -> None:
    """Retried, it ends as if nothing had happened, from its last periodic checkpoint."""
    before = rows(run)
    assert 5 <= len(before) < 60
    queue.alps("retry")
    queue.until_ended("1 finished")
    kept = num_kept(before, run)
    assert kept >= len(before) - 10, "the last checkpoint, or that before it on a full disk"
    assert_same(run, reference)


def test_a_lost_job_may_cancel_the_others(queue):
    """Its process cannot do so any more; another does when it ends."""
    long = ("optim.epochs=30,1000,2000", "trainer.checkpoint_every_n_steps=1000")
    queue.submit("method=full", *long, "fail_fast=true")
    queue.until(lambda: len(list(queue.outputs.glob("runs/*/metrics.csv"))) == 3)
    jobs = {s.entry.run.optim.epochs: s.job for s in queue.states().values()}
    index = jobs[1000].partition("_")[2]
    for process in processes("python", "alps.launch.slurm.job", cwd=queue.folder):
        if Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[-2] == index.encode():
            os.kill(process, signal.SIGKILL)
    queue.until_ended()
    states = {s.entry.run.optim.epochs: s for s in queue.states().values()}
    assert [states[n].state for n in (30, 1000, 2000)] == ["finished", "lost", "stopped"]
    assert f"as {states[1000].entry.key} failed (fail_fast=true)" in states[2000].reason


@pytest.mark.parametrize("victim", ["python", "srun"])
def test_a_killed_process_of_a_job(queue, uninterrupted, victim):
    queue.submit(*LONG)
    run = queue.until_trained(7)
    job = queue.only().job
    for process in processes(victim, "alps.launch.slurm.job", cwd=queue.folder):
        os.kill(process, signal.SIGKILL)  # srun consists of two
    # Without srun the training receives SIGTERM, and mostly stops with a checkpoint.
    queue.until_ended("1 lost", *(["1 stopped"] if victim == "srun" else []))
    state = queue.only()
    if state.state == "lost":
        assert f"its job {job} ended FAILED; log: {queue.folder}" in state.reason
    goes_on(queue, run, uninterrupted(*LONG, "trainer.devices=1"))


def test_a_killed_batch_step(queue, uninterrupted, one_host):
    """SLURM does not notice; the training goes on, and its job stays until it is cancelled."""
    queue.submit(*LONG)
    run = queue.until_trained(7)
    shown = command("scontrol", "show", "job", "--oneliner", queue.only().job)
    number = shown.split()[0].removeprefix("JobId=")
    (process,) = processes("slurmstepd", f"[{number}.batch]", cwd=one_host.folder)
    os.kill(process, signal.SIGKILL)
    queue.until_ended("1 finished")
    assert_same(run, uninterrupted(*LONG, "trainer.devices=1"))


def test_a_controller_that_dies_while_jobs_run(queue, controller):
    """Jobs go on; commands say that the queue does not answer, and submit nothing."""
    queue.submit("method=alps", "optim.max_steps=30", "optim.epochs=10")
    run = queue.until_trained(3)
    controller.kill("slurmctld")
    out = queue.submit("method=random", check=1)
    assert "does not answer" in out and "nothing was submitted" in out
    out = queue.alps("status")
    assert "states come from the run folders alone" in out
    assert queue.states()[run.name].state in ("running", "finished")
    other = next(s for key, s in queue.states().items() if key != run.name)
    assert (other.state, other.reason) == ("unknown", "the queue does not answer")
    controller.repair()
    queue.until_ended("2 finished")
    assert {state.attempt for state in queue.states().values()} == {1}


@pytest.fixture
def small_disk(queue):
    """Outputs on a file system of their own."""
    queue.outputs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", str(queue.outputs)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    yield queue.outputs
    queue.clean_up()
    subprocess.run(["umount", "--lazy", str(queue.outputs)], check=True)


def test_a_full_disk(queue, uninterrupted, small_disk):
    queue.submit(*LONG)
    run = queue.until_trained(7)
    filler = small_disk / "filler"
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], capture_output=True, check=False
    )
    queue.until_ended("1 lost", "1 failed")
    assert "no space" in queue.only().reason.lower()
    filler.unlink(missing_ok=True)
    goes_on(queue, run, uninterrupted(*LONG, "trainer.devices=1"))
