"""Processes of this machine: whether one still runs, and those that this one has started."""

from __future__ import annotations

import os
import socket
from pathlib import Path

STATE, PARENT, START = 0, 1, 19
"""Columns of `/proc/<pid>/stat` after the name."""


def machine() -> tuple[str, str]:
    """Host name, and the boot and PID namespace within which a process id has a meaning.

    Two containers may have the same host name, and a node keeps its own when it starts again.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return socket.gethostname(), f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname(), "unknown"


def start_time(pid: int) -> str | None:
    """When a process started, in ticks since boot; None if unknown (not Linux, or hidden)."""
    stat = _stat(pid)
    return stat[START] if stat else None


def is_running(pid: int, start: str | None) -> bool:
    """Whether a process of this machine still runs.

    Args:
        pid: Its id, which another process may have by now.
        start: Its start time, if known.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    stat = _stat(pid)
    return stat is None or (stat[STATE] not in "ZX" and start in (None, stat[START]))


def descendants() -> list[int]:
    """Processes started by this one, by those, and so on; none are known outside Linux."""
    stats = {int(p.name): _stat(p.name) for p in Path("/proc").glob("[0-9]*")}
    found = [os.getpid()]
    for parent in found:
        found += [pid for pid, stat in stats.items() if stat and stat[PARENT] == str(parent)]
    return found[1:]


def _stat(pid: int | str) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split() or None
