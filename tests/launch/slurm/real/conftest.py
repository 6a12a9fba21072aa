"""Real jobs on a real cluster: `make test-slurm`, or `pytest -m slurm` where there is one."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from preloaded import Preloaded
from slurm_queue import SMALL, OneHost, Queue

from alps.base.hashing import digest


@contextmanager
def locked(name: str, how: int) -> Iterator[None]:
    """Keeps tests apart that other processes of pytest-xdist run."""
    folder = Path(os.environ.get("SLURM_CONF", "/tmp/slurm.conf")).parent
    with (folder / f"{name}.lock").open("a") as file:
        fcntl.flock(file, how)
        yield


@pytest.fixture
def queue(request: pytest.FixtureRequest, tmp_path: Path, cli: Any) -> Iterator[Queue]:
    """Every test has it; who needs `controller` is alone with the cluster."""
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("no SLURM cluster answers")
    alone = "controller" in request.fixturenames
    with locked("cluster", fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        found = Queue(tmp_path, cli)
        yield found
        found.clean_up()


@pytest.fixture
def one_host(queue: Queue) -> Iterator[OneHost]:
    """The cluster of slurm/one_host.sh."""
    folder = Path(os.environ.get("SLURM_CONF", "/")).parent
    if not (folder / "slurmctld.pid").exists() or "two" not in queue.nodes:
        pytest.skip("needs the cluster of slurm/one_host.sh")
    host = OneHost(folder)
    yield host
    host.repair()


@pytest.fixture
def node_two(one_host: OneHost) -> Iterator[OneHost]:
    """For this test only: the node `two`, which it may kill."""
    with locked("two", fcntl.LOCK_EX):
        yield one_host
        one_host.repair()


@pytest.fixture
def controller(one_host: OneHost) -> OneHost:
    """For this test only: the cluster, whose slurmctld it may kill."""
    return one_host


@pytest.fixture(scope="session")
def uninterrupted(preloaded: Preloaded, tmp_path_factory: Any, worker_id: str) -> Any:
    """Trains with `alps train`, once for all tests; returns the folder of runs."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent  # processes of pytest-xdist share it

    def train(*settings: str) -> Path:
        folder = base / f"uninterrupted-{digest(settings)[:12]}"
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (folder / "trained").exists():
                arguments = ("-m", "alps.cli", "train", *SMALL, *settings)
                done = preloaded.run(*arguments, cwd=folder)
                assert done.returncode == 0, done.stderr
                (folder / "trained").touch()
        return folder / "outputs" / "runs"

    return train
