"""Locks between processes, of one node or several, on local and network file systems.

A lock is held by a *claim*: a file that names its process and that a heartbeat touches. Nobody
deletes or overwrites the claim of another. Who finds a claim dead creates its successor, the file
`<lock>-<token of the claim>`, exclusively; the last claim of such a chain holds the lock. So a
claim never has two successors, and a process that was only stalled sees that it has one.

A claim is dead if its process has ended (same machine), or if a waiting process has seen no
heartbeat for a lease by its own clock (another machine); clocks are not compared. The file system
must create hard links, or else files, exclusively: NFS (since version 3) and Lustre do. `flock` may
end at the node there, and filelock's SoftFileLease takes over by exchanging two names, which they
refuse.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from alps.base.processes import descendants, is_running, machine, start_time

LEASE_SECONDS = 60.0
"""A claim of another machine is dead after this long without a heartbeat.

Network file systems stall for seconds, and a library may hold the interpreter's lock as long.
"""

HEARTBEATS = 4
"""Heartbeats in a lease."""

UNREADABLE_SECONDS = 5.0
"""A claim without content is dead after this long.

Locks of earlier versions were empty, and so is a file after a crash of its machine. Without hard
links (some FUSE file systems) a live claim is empty for a moment.
"""

POLL_SECONDS = (0.05, 1.0)
"""Interval at which a waiting process looks at the lock: the first and the longest."""

NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of file systems without hard links."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock, or that died holding it.

    Attributes:
        host: Its node.
        pid: Its process there.
        alive: Whether it runs; on another machine, whether its last heartbeat is recent.
    """

    host: str
    pid: int
    alive: bool


@contextmanager
def hold(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds a lock; waits for another process that does, and takes over from a dead one.

    Kills this process and its children, with a sentence on stderr, if another process has taken
    over because this one was stalled for longer than a lease, or if the lock's file was deleted.

    Args:
        path: The lock's file, in a folder that exists.
        on_wait: Called once if the lock is not free.

    Raises:
        OSError: If the folder cannot be written to.
        RuntimeError: If this thread holds it already.
    """
    lease = _Lease(Path(os.path.abspath(path)))
    try:
        lease.acquire(on_wait)
        yield
    finally:
        lease.release()


def lock_owner(path: Path) -> Owner | None:
    """Who holds a lock, or died holding it; None if it is free. Does not wait.

    A heartbeat of another machine is compared with the file system's time. On Lustre both are
    clocks of nodes; `hold` depends on neither.

    Raises:
        OSError: If the lock's file cannot be read.
    """
    if not (chain := _chain(path)):
        return None
    claim = chain[-1]
    ended = _has_ended(claim)
    if ended is None:
        ended = _age(claim) > claim.lease
    return Owner(claim.host, claim.pid, not ended)


def check_held() -> None:
    """Kills this process if it was stalled and has lost a lock; called before a file is replaced.

    The heartbeat notices as well, but the main thread could overwrite a file of the new owner in
    the meantime.
    """
    for lease in list(_held):
        if time.monotonic() - lease.refreshed > 0.75 * lease.duration:
            lease.refresh()


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """Content and time of a claim's file.

    Attributes:
        token: Unique name of the claim.
        host: Node of its process.
        machine: As of `processes.machine`; empty if the file cannot be understood.
        pid: Its process.
        start: Start time of the process, if known.
        lease: Seconds without a heartbeat after which it is dead.
        path: Its file.
        heartbeat: Modification time of the file, in nanoseconds.
    """

    token: str
    host: str
    machine: str
    pid: int
    start: str | None
    lease: float
    path: Path
    heartbeat: int


CONTENT = ("token", "host", "machine", "pid", "start", "lease")
"""Fields of a claim that its file holds."""


@dataclass
class _Watch:
    """What a waiting process has seen of the claim that it waits for."""

    seen: tuple[str, int] | None = None
    since: float = 0.0

    def is_dead(self, claim: _Claim, looked: float) -> bool:
        """Whether the claim is dead.

        Args:
            claim: The claim.
            looked: Monotonic time before it was read; this process may have been stalled since.
        """
        if (ended := _has_ended(claim)) is not None:
            return ended
        if not claim.machine:
            return _age(claim) > claim.lease
        if self.seen != (claim.token, claim.heartbeat):
            self.seen, self.since = (claim.token, claim.heartbeat), time.monotonic()
        return looked - self.since > claim.lease


@dataclass(eq=False)
class _Lease:
    """This process's hold on a lock.

    Attributes:
        path: The lock's file.
        token: Token of the claim.
        claimed: File of the claim, once there may be one.
        refreshed: Monotonic time before the last heartbeat.
    """

    path: Path
    token: str = ""
    claimed: Path | None = None
    refreshed: float = 0.0
    duration: float = field(default_factory=lambda: LEASE_SECONDS)
    pid: int = field(default_factory=os.getpid)
    thread: int = field(default_factory=threading.get_ident)
    released: threading.Event = field(default_factory=threading.Event)
    heart: threading.Thread | None = None

    def acquire(self, on_wait: Callable[[], None] | None) -> None:
        """Waits until the lock is this process's."""
        if any((held.path, held.thread) == (self.path, self.thread) for held in _held):
            raise RuntimeError(f"this thread already holds {self.path}")
        watch, (wait, longest) = _Watch(), POLL_SECONDS
        while not self._try(watch):
            if on_wait:
                on_wait()
                on_wait = None
            time.sleep(wait)
            wait = min(1.5 * wait, longest)
        _held.append(self)
        self.heart = threading.Thread(target=self._beat, name=f"lock {self.path}", daemon=True)
        self.heart.start()

    def release(self) -> None:
        """Deletes the claim; in a fork of the process, does nothing."""
        if self.claimed is None or self.pid != os.getpid():
            return
        self.released.set()
        if self.heart is not None and self.heart.ident is not None:
            self.heart.join()
        if self in _held:
            _held.remove(self)
        chain = _chain(self.path)
        tokens = [claim.token for claim in chain]
        if self.token not in tokens:
            return  # it was deleted, or there never was one
        # Its own successor keeps others from taking over while the files go. `path` goes first: who
        # finds it finds the whole chain.
        end = _successor(self.path, chain[-1])
        if tokens[-1] != self.token or not _publish(end, self._content(secrets.token_hex(8))):
            self._stop()
        for file in (*(claim.path for claim in chain), end):
            file.unlink(missing_ok=True)

    def refresh(self) -> None:
        """A heartbeat; kills the process if the claim has a successor or is gone.

        If the file system doesn't answer in time, nothing is lost: however old, a claim without a
        successor holds.
        """
        now = time.monotonic()
        assert self.claimed is not None
        with suppress(OSError):
            _file_system_time(self.path.parent)  # an NFS client then looks at the folder anew
            own = _read(self.claimed)
            if own is None or own.token != self.token or _successor(self.path, own).exists():
                if not self.released.is_set():
                    self._stop()
                return
            os.utime(self.claimed)
            self.refreshed = now

    def _try(self, watch: _Watch) -> bool:
        looked = time.monotonic()
        chain = _chain(self.path)
        dead = chain[-1] if chain else None
        if dead is not None and not watch.is_dead(dead, looked):
            return False
        self.token, self.refreshed = secrets.token_hex(8), time.monotonic()
        self.claimed = self.path if dead is None else _successor(self.path, dead)
        if not _publish(self.claimed, self._content(self.token)):
            return False
        # In the meantime the chain may have been deleted, or its last process have come back.
        chain = _chain(self.path)
        tokens = [claim.token for claim in chain]
        if tokens[-1:] == [self.token] and (dead is None or dead in chain):
            return True
        if self.token not in tokens[:-1]:
            self.claimed.unlink(missing_ok=True)
        return False

    def _content(self, token: str) -> Mapping[str, Any]:
        host, where = machine()
        values = (token, host, where, self.pid, start_time(self.pid), self.duration)
        return dict(zip(CONTENT, values, strict=True))

    def _beat(self) -> None:
        while not self.released.wait(self.duration / HEARTBEATS):
            self.refresh()

    def _stop(self) -> NoReturn:
        """Kills this process and those it started, which write to the same folder."""
        try:
            chain = _chain(self.path)
            why = f"{self.path} was deleted: this process no longer holds the lock and stops"
            if chain and chain[-1].token != self.token:
                new = f"process {chain[-1].pid} on {chain[-1].host}"
                why = f"{new} took over {self.path} while this process was stalled: this one stops"
            os.write(2, f"error: {why}\n".encode())
            for pid in descendants():
                with suppress(OSError):  # it has ended
                    os.kill(pid, signal.SIGKILL)
        finally:
            os._exit(1)


_held: list[_Lease] = []
"""Locks of this process, none of which its forks hold."""
os.register_at_fork(after_in_child=_held.clear)


def _chain(path: Path) -> list[_Claim]:
    """The claim at `path`, its successor, and so on; the last one holds the lock."""
    chain, claim = [], _read(path)
    while claim is not None:
        chain.append(claim)
        claim = _read(_successor(path, claim))
    return chain


def _successor(path: Path, claim: _Claim) -> Path:
    return path.with_name(f"{path.name}-{claim.token}")


def _read(path: Path) -> _Claim | None:
    try:
        with path.open("rb") as file:  # opening it makes an NFS client ask for its time
            text, heartbeat = file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
        content = {name: content[name] for name in CONTENT}
    except (ValueError, TypeError, KeyError):
        values = (f"after{path.name}", "an unknown node", "", 0, None, UNREADABLE_SECONDS)
        content = dict(zip(CONTENT, values, strict=True))
    return _Claim(**content, path=path, heartbeat=heartbeat)


def _publish(path: Path, content: Mapping[str, Any]) -> bool:
    """Creates a claim's file, complete from the first moment; False if there is one already."""
    data = json.dumps(content).encode()
    temporary = path.with_name(f"{path.name}-{content['token']}.tmp")
    try:
        _create(temporary, data)
        try:
            os.link(temporary, path)
        except FileNotFoundError:  # `RunFolder.remove_partial_files` has deleted it
            return False
        except FileExistsError:  # or NFS has repeated the request after a lost answer
            return temporary.exists() and temporary.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            with suppress(FileExistsError):
                _create(path, data)
                return True
            return False
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _create(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        with suppress(OSError):
            os.fchmod(descriptor, 0o644)  # whatever the umask: others must see who holds the lock
        file.write(data)


def _has_ended(claim: _Claim) -> bool | None:
    """Whether the process of a claim has ended; None if it ran on another machine."""
    if (claim.host, claim.machine) != machine():
        return None
    return not is_running(claim.pid, claim.start)


def _age(claim: _Claim) -> float:
    """Seconds since the last heartbeat, by the file system's time."""
    return _file_system_time(claim.path.parent) - claim.heartbeat / 1e9


def _file_system_time(folder: Path) -> float:
    """Time of a file created now; of this node, if the folder is readable only."""
    try:
        with tempfile.TemporaryFile(dir=folder, suffix=".tmp") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
