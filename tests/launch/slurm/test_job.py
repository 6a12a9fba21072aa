"""A job is told that its time is up, with and without a training that listens."""

import signal
import time

import pytest

from alps.base.serialization import to_dict
from alps.launch.slurm_job import TrainingJob
from alps.runs.folder import RunFolder
from alps.runs.result import Result


@pytest.fixture
def handlers():
    """What submitit installs, and it is taken away afterwards."""
    told = []
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR2)}
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.signal(signal.SIGUSR2, lambda number, frame: told.append(number))
    yield told
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_does_not_listen_is_interrupted(handlers):
    work = TrainingJob(1, 60)
    with pytest.raises(SystemExit) as stopped, work._stopped_in_time() as requeue:
        signal.raise_signal(signal.SIGUSR2)
    assert work.time_is_up and stopped.value.code == 128 + signal.SIGUSR2
    requeue(signal.SIGUSR2, None)
    assert handlers == [signal.SIGUSR2]


def test_a_training_that_listens_is_asked_and_has_its_time(handlers):
    work, asked = TrainingJob(1, 1), []
    began = time.monotonic()
    with pytest.raises(SystemExit), work._stopped_in_time():
        signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
        signal.raise_signal(signal.SIGUSR2)
        while time.monotonic() - began < 30:  # it does not stop by itself
            time.sleep(0.01)
    assert asked == [signal.SIGTERM] and time.monotonic() - began > 0.6


def test_nothing_is_left_behind_by_a_run_that_ends_in_time(handlers, make_run):
    run, before = make_run("method=random"), signal.getsignal(signal.SIGUSR2)
    TrainingJob(2, 60)(to_dict(run))
    assert Result.read(RunFolder(run.folder).result_path).num_steps == 3
    assert signal.getsignal(signal.SIGUSR2) == before
    assert (run.folder / "train.log").exists()


def test_a_failure_is_in_the_log_of_the_run(handlers, make_run):
    run = make_run("method=full", "optim.lr=1e30", "optim.clip_norm=null")
    with pytest.raises(RuntimeError, match="nan"):
        TrainingJob(1, 60)(to_dict(run))
    assert "Traceback" in (run.folder / "train.log").read_text()
