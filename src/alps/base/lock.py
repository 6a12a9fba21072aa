"""Locks between processes, of one node or several, on local and network file systems.

A lock is held by a *claim*: a file that names its process and that a heartbeat touches. Who finds a
claim dead leaves it and creates its successor, the file `<lock>-<token of the claim>`, exclusively.
The last claim of such a chain holds the lock, and deletes the chain at its release. So a claim
never has two successors, and a process that was only stalled sees that it has one.

A claim is dead if its process has ended (same machine), or if a waiting process has seen no
heartbeat for a lease by its own clock (another machine); clocks are not compared. The file system
must create hard links, or else files, exclusively: NFS (since version 3) and Lustre do. `flock` may
end at the node there, and filelock's SoftFileLease takes over by exchanging two names, which they
refuse.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from alps.base.claims import (
    Claim,
    file_system_time,
    has_ended,
    publish,
    read_chain,
    read_claim,
    seconds_unrefreshed,
    successor_path,
)
from alps.base.processes import descendants

LEASE_SECONDS = 60.0
"""A claim of another machine is dead after this long without a heartbeat.

Network file systems stall for seconds, and a library may hold the interpreter's lock as long.
"""

HEARTBEATS = 4
"""Heartbeats in a lease."""

POLL_SECONDS = (0.05, 1.0)
"""Interval at which a waiting process looks at the lock: the first and the longest."""


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
    if not (chain := read_chain(path)):
        return None
    claim = chain[-1]
    ended = has_ended(claim)
    if ended is None:
        ended = seconds_unrefreshed(claim) > claim.lease
    if ended and not claim.machine:
        return None  # a file of an earlier version, or damaged
    return Owner(claim.host, claim.pid, not ended)


def check_held() -> None:
    """Kills this process if it was stalled and has lost a lock; called before a file is replaced.

    The heartbeat notices as well, but the main thread could overwrite a file of the new owner in
    the meantime.
    """
    for lease in list(_held):
        if time.monotonic() - lease.refreshed > 0.75 * lease.duration:
            lease.refresh()


@dataclass
class _Watch:
    """What a waiting process has seen of the claim that it waits for."""

    seen: tuple[str, int] | None = None
    since: float = 0.0

    def is_dead(self, claim: Claim, looked: float) -> bool:
        """Whether the claim is dead.

        Args:
            claim: The claim.
            looked: Monotonic time before it was read; this process may have been stalled since.
        """
        if (ended := has_ended(claim)) is not None:
            return ended
        if not claim.machine:
            return seconds_unrefreshed(claim) > claim.lease
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
        with suppress(OSError):  # the claim is dead as soon as this process ends
            self._delete()

    def _delete(self) -> None:
        chain = read_chain(self.path)
        tokens = [claim.token for claim in chain]
        if self.token not in tokens:
            return  # it was deleted, or there never was one
        end = successor_path(self.path, chain[-1])
        if tokens[-1] != self.token or not self._succeed_itself(end):
            self._stop()
        for file in (*(claim.path for claim in chain), end):
            file.unlink(missing_ok=True)

    def _succeed_itself(self, end: Path) -> bool:
        """Keeps others from taking over while the files go, first the lock's own.

        Who finds that one finds the whole chain.
        """
        try:
            return publish(end, secrets.token_hex(8), self.duration)
        except OSError:  # the disk is full; the last heartbeat is too recent for a successor
            return time.monotonic() - self.refreshed < self.duration / 2

    def refresh(self) -> None:
        """A heartbeat; kills the process if the claim has a successor or is gone.

        If the file system doesn't answer in time, nothing is lost: however old, a claim without a
        successor holds.
        """
        now = time.monotonic()
        assert self.claimed is not None
        with suppress(OSError):
            file_system_time(self.path.parent)  # an NFS client then looks at the folder anew
            own = read_claim(self.claimed)
            if own is None or own.token != self.token or successor_path(self.path, own).exists():
                if not self.released.is_set():
                    self._stop()
                return
            os.utime(self.claimed)
            self.refreshed = now

    def _try(self, watch: _Watch) -> bool:
        looked = time.monotonic()
        chain = read_chain(self.path)
        dead = chain[-1] if chain else None
        if dead is not None and not watch.is_dead(dead, looked):
            return False
        self.token, self.refreshed = secrets.token_hex(8), time.monotonic()
        self.claimed = self.path if dead is None else successor_path(self.path, dead)
        if not publish(self.claimed, self.token, self.duration):
            return False
        # In the meantime the chain may have been deleted, or its last process have come back.
        chain = read_chain(self.path)
        tokens = [claim.token for claim in chain]
        if tokens[-1:] == [self.token] and (dead is None or dead in chain):
            return True
        if self.token not in tokens[:-1]:
            self.claimed.unlink(missing_ok=True)
        return False

    def _beat(self) -> None:
        while not self.released.wait(self.duration / HEARTBEATS):
            self.refresh()

    def _stop(self) -> NoReturn:
        """Kills this process and those it started, which write to the same folder."""
        _stopping.acquire()  # by one thread
        try:
            chain = read_chain(self.path)
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


_stopping = threading.Lock()
_held: list[_Lease] = []
"""Locks of this process, none of which its forks hold."""
os.register_at_fork(after_in_child=_held.clear)
