"""CPU cores, memory and disk that this process may use: limits of its cgroup and affinity count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Limits of version 1 that are larger mean none."""


@dataclass(frozen=True, kw_only=True)
class Cores:
    """CPU cores of this process.

    Attributes:
        machine: Cores of the machine.
        allowed: Those that its affinity allows; torch starts as many threads.
        quota: Cores' worth of time that its cgroup grants, or None.
    """

    machine: int
    allowed: int
    quota: float | None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Main memory of this process in bytes.

    Attributes:
        total: Of the machine, or of the cgroup if that is less.
        free: What of it is available now.
        limited: Whether the cgroup limits it.
    """

    total: int
    free: int
    limited: bool


def cpu_cores() -> Cores:
    """Cores of this process."""
    machine = os.cpu_count() or 1
    affinity = getattr(os, "sched_getaffinity", None)
    quotas = [q for q in (_quota(folder) for folder in _groups("cpu")) if q]
    return Cores(
        machine=machine,
        allowed=len(affinity(0)) if affinity else machine,
        quota=min(quotas, default=None),
    )


def main_memory() -> Memory | None:
    """Memory of this process, or None where the kernel does not say."""
    try:
        lines = (PROC / "meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = {name: text.split()[0] for name, _, text in (s.partition(":") for s in lines) if text}
    total = int(sizes.get("MemTotal", 0)) * 1024
    free = int(sizes.get("MemAvailable", sizes.get("MemFree", 0))) * 1024
    limited = False
    for folder in _groups("memory"):
        limit = _number(folder, "memory.max", "memory.limit_in_bytes")
        if limit is None or limit >= min(total, UNLIMITED):
            continue
        used = _number(folder, "memory.current", "memory.usage_in_bytes") or 0
        total, free, limited = limit, min(free, max(0, limit - used)), True
    return Memory(total=total, free=free, limited=limited) if total else None


def existing_parent(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    place = folder.absolute()
    return next(p for p in (place, *place.parents) if os.path.exists(p))


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process' cgroup and those above it, of version 2 or of a controller's own."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for entry in lines:
        _, names, path = entry.split(":", 2)
        if names and controller not in names.split(","):
            continue
        top = CGROUPS / names if names else CGROUPS
        top = top if top.is_dir() else CGROUPS / controller
        own = top / path.lstrip("/")
        yield own
        yield from (p for p in own.parents if p.is_relative_to(top))


def _number(folder: Path, *names: str) -> int | None:
    for name in names:
        try:
            return int((folder / name).read_text())
        except (OSError, ValueError):  # absent, or "max"
            continue
    return None


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        quota, period = (_number(folder, f"cpu.cfs_{n}_us") for n in ("quota", "period"))
        return quota / period if quota and period and quota > 0 else None
