"""Something dies: a rank, the batch step, the controller; or the disk is full."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from slurm_queue import LONG, assert_same, command, num_kept, processes, rows

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]


def test_a_killed_rank(queue, uninterrupted):
    settings = (*LONG, "trainer.devices=2")
    queue.submit(*settings)
    run = queue.until_trained(7)
    os.kill(processes("python", "alps.launch.worker", run.name)[-1], signal.SIGKILL)
    queue.until_ended("1 failed")
    assert "was killed (SIGKILL)" in queue.only().reason
    goes_on(queue, run, uninterrupted(*settings))


def goes_on(queue, run: Path, reference: Path) -> None:
    """Retried, it ends as if nothing had happened, from its last periodic checkpoint."""
    before = rows(run)
    assert 5 <= len(before) < 60
    queue.alps("retry")
    queue.until_ended("1 finished")
    assert num_kept(before, run) >= len(before) // 5 * 5 - 5
    assert num_kept(before, run) % 5 == 0 or num_kept(before, run) == len(before)
    assert_same(run, reference)


@pytest.mark.parametrize("victim", ["python", "srun", "slurmstepd"])
def test_a_killed_process_of_a_job(queue, uninterrupted, victim):
    queue.submit(*LONG)
    run = queue.until_trained(7)
    job = queue.only().job
    number = command("scontrol", "show", "job", "--oneliner", job).split("JobId=")[1].split()[0]
    words = {
        "python": ("alps.launch.slurm.job", str(queue.folder)),
        "srun": (str(queue.folder),),
        "slurmstepd": (f"slurmstepd: [{number}.batch]",),
    }[victim]
    ids = processes(victim if victim != "slurmstepd" else "slurmstepd", *words)
    assert ids
    for each in ids:
        os.kill(each, signal.SIGKILL)
    import time

    t = time.time()
    log = open("/tmp/kx.log", "a")
    last = ""
    while time.time() - t < 60:
        s = queue.only()
        now = f"{victim} {s.state} {s.reason} " + command(
            "squeue", "--noheader", "--format=%i %T %r"
        )
        if now != last:
            print(f"{time.time() - t:.1f}", now, len(rows(run)), file=log, flush=True)
        last = now
        if s.state in ("finished",):
            break
        if s.state in ("lost", "failed", "stopped") and not s.queued:
            break
        time.sleep(0.2)
    queue.until_ended()
    goes_on(queue, run, uninterrupted(*LONG))


def test_a_controller_that_dies_while_jobs_run(queue, controller):
    """Jobs go on; commands say that the queue does not answer, and submit nothing."""
    queue.submit("method=alps", "optim.max_steps=30", "optim.epochs=10")
    run = queue.until_trained(3)
    controller.kill("slurmctld")
    out = queue.submit("method=random", check=1)
    assert "does not answer" in out and "nothing was submitted" in out
    out = queue.alps("status")
    assert "states are those of the run folders" in out
    assert queue.states()[run.name].state in ("running", "finished")
    other = next(s for key, s in queue.states().items() if key != run.name)
    assert (other.state, other.reason) == ("unknown", "the queue does not answer")
    assert "nothing more was submitted" in queue.alps("retry", check=1)
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
    queue.until_ended()
    with open("/tmp/kx.log", "a") as f:
        print(queue.report(), queue.only(), file=f)
    filler.unlink()
    goes_on(queue, run, uninterrupted(*LONG))
