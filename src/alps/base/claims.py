"""Files of claims to a lock, of which each may have one successor (see `lock`)."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.base.processes import is_running, machine, start_time

UNREADABLE_SECONDS = 5.0
"""A claim without content is dead after this long.

Locks of earlier versions were empty, and so is a file after a crash of its machine. Without hard
links (some FUSE file systems) a live claim is empty for a moment.
"""

NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of file systems without hard links."""


@dataclass(frozen=True, kw_only=True)
class Claim:
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


def read_chain(path: Path) -> list[Claim]:
    """The claim at `path`, its successor, and so on; the last one holds the lock."""
    chain, claim = [], read_claim(path)
    while claim is not None:
        chain.append(claim)
        claim = read_claim(successor_path(path, claim))
    return chain


def successor_path(path: Path, claim: Claim) -> Path:
    """File of the claim's successor, for the lock at `path`."""
    return path.with_name(f"{path.name}-{claim.token}")


def read_claim(path: Path) -> Claim | None:
    """The claim in a file, or None if there is no such file."""
    try:
        with path.open("rb") as file:  # opening it makes an NFS client ask for its time
            text, heartbeat = file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    try:
        known = json.loads(text)
        content: dict[str, Any] = {name: known[name] for name in CONTENT}
    except (ValueError, TypeError, KeyError):
        content = {"token": f"after{path.name}", "host": "an unknown node", "machine": ""}
        content |= {"pid": 0, "start": None, "lease": UNREADABLE_SECONDS}
    return Claim(**content, path=path, heartbeat=heartbeat)


def publish(path: Path, token: str, lease: float) -> bool:
    """Creates a claim of this process, complete from the first moment, unless the file exists.

    Args:
        path: Its file.
        token: Its unique name.
        lease: Seconds without a heartbeat after which it is dead.

    Returns:
        Whether it was created.
    """
    host, where = machine()
    values = (token, host, where, os.getpid(), start_time(os.getpid()), lease)
    data = json.dumps(dict(zip(CONTENT, values, strict=True))).encode()
    temporary = path.with_name(f"{path.name}-{token}.tmp")
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


def has_ended(claim: Claim) -> bool | None:
    """Whether the process of a claim has ended; None if it ran on another machine."""
    if (claim.host, claim.machine) != machine():
        return None
    return not is_running(claim.pid, claim.start)


def seconds_unrefreshed(claim: Claim) -> float:
    """Seconds since the last heartbeat, by the file system's time."""
    return file_system_time(claim.path.parent) - claim.heartbeat / 1e9


def file_system_time(folder: Path) -> float:
    """Time of a file created now; of this node, if the folder is readable only."""
    try:
        with tempfile.TemporaryFile(dir=folder, suffix=".tmp") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
