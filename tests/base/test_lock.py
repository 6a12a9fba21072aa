"""Locks, held by real processes. A process of another node is one with another host name."""

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alps.base import claims, lock
from alps.base.lock import Owner, hold, lock_owner
from alps.base.processes import is_running

HOLD = """
import os, socket, subprocess, sys, time
from pathlib import Path
from alps.base import lock
from alps.base.atomic import write_text
path, host, lease, beats, task = Path(sys.argv[1]), *sys.argv[2:]
socket.gethostname = lambda: host or os.uname().nodename
lock.LEASE_SECONDS, lock.HEARTBEATS = float(lease), float(beats)
with lock.hold(path, lambda: print("waiting", flush=True)):
    if task == "write":
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen(["sleep", "60"], start_new_session=True, **silent)
        print(child.pid, flush=True)
        while True:
            write_text(path.parent / "result", str(os.getpid()))
            time.sleep(0.02)
    print("in", flush=True)
    sys.stdin.readline()
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / ".lock"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Starts a process that holds the lock until it reads a line; its first line says so."""
    path.parent.mkdir()
    processes = []

    def begin(host="", lease=60.0, beats=4.0, task="wait") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(path), host, str(lease), str(beats), task]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, text=True, **pipes))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def files(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def test_a_lock_leaves_no_file(path, start):
    with hold(path):
        assert files(path) == [".lock"]
        assert lock_owner(path) == Owner(os.uname().nodename, os.getpid(), True)
    assert files(path) == []
    assert lock_owner(path) is None


def test_of_many_processes_one_at_a_time_is_in(path, start):
    code = """
import sys
from pathlib import Path
from alps.base.lock import hold
path = Path(sys.argv[1])
count = path.parent / "count"
for _ in range(20):
    with hold(path):
        count.write_text(str(int(count.read_text()) + 1))
"""
    (path.parent / "count").write_text("0")
    command = [sys.executable, "-c", code, str(path)]
    for process in [subprocess.Popen(command) for _ in range(3)]:
        assert process.wait(60) == 0
    assert (path.parent / "count").read_text() == "60"
    assert files(path) == ["count"]


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_process_of_this_machine_is_succeeded_at_once(path, start, reaped):
    other, waits = start(), []
    assert says(other) == "in"
    other.kill()
    if reaped:
        other.wait()
    else:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    owner = lock_owner(path)
    assert owner is not None and (owner.pid, owner.alive) == (other.pid, False)
    with hold(path, lambda: waits.append(1)):
        assert not waits
        assert lock_owner(path) == Owner(os.uname().nodename, os.getpid(), True)
    assert files(path) == []


def test_an_id_that_another_process_has_by_now_does_not_hold_a_lock(path, start, monkeypatch):
    monkeypatch.setattr(claims, "start_time", lambda pid: "1")  # of the boot, not of this process
    assert claims.publish(path, "token", 60)
    owner = lock_owner(path)
    assert owner is not None and not owner.alive


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_a_dead_node_is_succeeded_after_its_lease(path, start, skew):
    other, waits = start("node2", lease=1), []
    assert says(other) == "in"
    killed = time.monotonic()
    other.kill()
    os.utime(path, (time.time() + skew,) * 2)  # its clock was wrong
    with hold(path, lambda: waits.append(1)):
        assert time.monotonic() - killed > 1
        assert waits == [1]
        assert files(path)[0] == ".lock" and len(files(path)) == 2
        owner = lock_owner(path)
        assert owner is not None and owner.pid == os.getpid()
    assert files(path) == []


def test_a_live_process_of_another_node_keeps_its_lock(path, start):
    owner = start("node2", lease=3)
    assert says(owner) == "in"
    waiting = start("node3", lease=3)
    assert says(waiting) == "waiting"
    assert select.select([waiting.stdout], [], [], 4.5)[0] == []
    assert lock_owner(path) == Owner("node2", owner.pid, True)
    owner.communicate("\n")
    assert says(waiting) == "in"


@pytest.mark.parametrize("beats", [4, 0.01])  # by its heartbeat, and before it replaces a file
def test_a_stalled_process_that_lost_its_lock_stops_with_its_children_and_writes_nothing(
    path, start, beats
):
    owner = start("node2", lease=1, beats=beats, task="write")
    result = path.parent / "result"
    child = int(says(owner))
    while not result.exists():
        time.sleep(0.01)
    owner.send_signal(signal.SIGSTOP)
    with hold(path):
        result.write_text("mine")
        owner.send_signal(signal.SIGCONT)
        out, err = owner.communicate(timeout=60)
        assert (owner.returncode, out) == (1, "")
        assert err == (
            f"error: process {os.getpid()} on {os.uname().nodename} took over {path} while this "
            "process was stalled: this one stops\n"
        )
        killed = time.monotonic()
        while is_running(child, None):  # the kernel takes a moment
            assert time.monotonic() - killed < 20
            time.sleep(0.01)
        assert result.read_text() == "mine"
        now = lock_owner(path)
        assert now is not None and now.pid == os.getpid()


def test_a_process_whose_lock_is_deleted_stops(path, start):
    owner = start(lease=0.4)
    assert says(owner) == "in"
    path.unlink()
    assert owner.wait(60) == 1
    err = owner.communicate()[1]
    assert err.startswith("error: ") and "was deleted" in err and err.count("\n") == 1


def test_a_process_that_was_only_slow_keeps_its_lock(path, start):
    owner = start("node2", lease=0.4)
    assert says(owner) == "in"
    owner.send_signal(signal.SIGSTOP)
    time.sleep(1)
    owner.send_signal(signal.SIGCONT)
    owner.communicate("\n", timeout=60)
    assert owner.returncode == 0
    assert files(path) == []


def test_who_comes_back_before_its_successor_is_there_is_left_alone(path, start, monkeypatch):
    other, tried = start("node2", lease=0.5), []
    assert says(other) == "in"
    other.kill()
    publish = lock.publish

    def late(*arguments):
        if not tried:
            os.utime(path)  # a heartbeat
        tried.append(1)
        return publish(*arguments)

    monkeypatch.setattr(lock, "publish", late)
    with hold(path):
        assert len(tried) == 2
        assert len(files(path)) == 2


def test_who_is_succeeded_as_soon_as_it_is_there_tries_again(path, start, monkeypatch):
    other, tried = start(), []
    assert says(other) == "in"
    other.kill()
    other.wait()
    publish, dead = lock.publish, json.loads(path.read_text())

    def stall(file, token, lease):
        assert publish(file, token, lease)
        if not tried:  # another process takes over, and dies
            path.with_name(f".lock-{token}").write_text(json.dumps({**dead, "token": "second"}))
        tried.append(1)
        return True

    monkeypatch.setattr(lock, "publish", stall)
    with hold(path):
        assert len(files(path)) == 4
        assert path.with_name(".lock-second").exists()
    assert files(path) == []


def test_who_releases_before_its_successor_is_there_has_none(path, start, monkeypatch):
    other, tried = start(), []
    assert says(other) == "in"
    other.kill()
    other.wait()
    publish = lock.publish

    def late(*arguments):
        if not tried:
            path.unlink()
        tried.append(1)
        return publish(*arguments)

    monkeypatch.setattr(lock, "publish", late)
    with hold(path):
        assert files(path) == [".lock"]


def test_the_last_heartbeat_is_compared_with_the_time_of_the_file_system(path, start, monkeypatch):
    other = start("node2")
    assert says(other) == "in"
    other.kill()
    other.wait()
    monkeypatch.setattr(time, "time", lambda: 0.0)  # this node's clock
    assert lock_owner(path) == Owner("node2", other.pid, True)
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 61 * 10**9))
    assert lock_owner(path) == Owner("node2", other.pid, False)
    assert files(path) == [".lock"]


@pytest.mark.parametrize("text", ["", "123\nnode\n", "[]", "{}"])
def test_a_file_of_an_earlier_version_does_not_block(path, start, text):
    path.write_text(text)
    owner = lock_owner(path)
    assert owner is not None and owner.alive  # a claim without hard links may be empty for a moment
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**10))
    assert lock_owner(path) is None
    with hold(path, pytest.fail):
        pass
    assert files(path) == []


def test_without_hard_links_files_are_created_exclusively(path, start, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    with hold(path):
        assert files(path) == [".lock"]
        other = start()
        assert says(other) == "waiting"
    assert says(other) == "in"
    owner = lock_owner(path)
    assert owner is not None and owner.pid == other.pid


def test_a_full_disk_does_not_keep_a_lock(path, start, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with hold(path):
        monkeypatch.setattr(lock, "publish", full)
    assert files(path) == []


def unprivileged(function: Callable[[], bool]) -> bool:
    """What `function` returns to a user who is not root."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            code = 0 if function() else 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


def test_a_folder_that_is_only_readable_says_who_holds_its_lock(path, start):
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are root's alone
    try:
        shared = folder / ".lock"
        with hold(shared):
            folder.chmod(0o555)
            assert unprivileged(lambda: (lock_owner(shared) or Owner("", 0, False)).alive)
        other = start("node2")
        assert says(other) == "in"
        shared.write_bytes(path.read_bytes())
        assert unprivileged(lambda: lock_owner(shared) == Owner("node2", other.pid, True))
        os.utime(shared, (time.time() - 61,) * 2)
        assert unprivileged(lambda: lock_owner(shared) == Owner("node2", other.pid, False))
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written_to_has_no_lock(path):
    with pytest.raises(OSError), hold(path):
        pass


def test_a_fork_does_not_release(path, start):
    code = """
import os, sys
from pathlib import Path
from alps.base.lock import check_held, hold
path = Path(sys.argv[1])
with hold(path):
    if os.fork() == 0:
        check_held()
        with hold(path.with_name("other")):
            pass
        sys.exit(0)  # leaves the block
    code = os.wait()[1]
    assert path.exists() and code == 0
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    assert files(path) == []


def test_a_thread_that_would_wait_for_itself_is_told(path, start):
    with hold(path), pytest.raises(RuntimeError, match="already holds"), hold(path):
        pass
    assert files(path) == []
