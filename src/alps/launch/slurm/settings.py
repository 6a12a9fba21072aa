"""Settings of SLURM jobs (`conf/hydra/launcher/slurm.yaml`), validated."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_SIGNAL_SECONDS = 65535
"""The largest time of sbatch's `--signal`."""

OPTIONS_OF_JOBS = (
    "array", "chdir", "dependency", "kill-on-invalid-dep", "nodes", "no-requeue", "ntasks",
    "ntasks-per-node", "open-mode", "output", "requeue", "signal", "wait", "wrap",
)  # fmt: skip
"""Options of sbatch on which submitting, requeueing and logs depend."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """Resources of a job, and how it is submitted.

    Attributes:
        name: Job name in `squeue`.
        account: Account to charge.
        partition: Partition; None for the cluster's default.
        qos: Quality of service.
        constraint: Required node features.
        gpus: GPUs per job; a run uses `trainer.devices` of them.
        cpus: CPUs per job.
        mem: Memory per job with its unit; None for the cluster's default.
        time: Time limit in minutes, or in sbatch's format.
        setup: Shell lines before Python.
        additional: Further options of sbatch.
        parallel: Jobs of one array that may run at once.
        max_timeouts: How often a run is requeued after its time limit.
        signal_seconds: Time of the checkpoint before the limit.
        poll_seconds: Maximum interval between queries of the queue.
    """

    name: str = "alps"
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int | None = None
    cpus: int = 4
    mem: str | None = None
    time: str | int = "24:00:00"
    setup: tuple[str, ...] = ()
    additional: Mapping[str, Any] = field(default_factory=dict)
    parallel: int = 256
    max_timeouts: int = 5
    signal_seconds: int = 120
    poll_seconds: int = 15

    @property
    def asks_for_gpus(self) -> bool:
        """Whether a job has GPUs: by `gpus`, or by other options and variables of sbatch."""
        own = {
            n.removeprefix("SBATCH_"): v for n, v in os.environ.items() if n.startswith("SBATCH_")
        }
        options = {
            n.lower().replace("_", "-"): str(v) for n, v in (own | {**self.additional}).items()
        }
        gres = any(n in ("gres", "tres-per-task") and "gpu" in v for n, v in options.items())
        return bool(self.gpus) or gres or any(n.split("-")[0] == "gpus" for n in options)

    def problems(self) -> list[str]:
        """Sentences about invalid settings."""
        where, found = "hydra.launcher", []
        for name in ("cpus", "parallel", "signal_seconds", "poll_seconds"):
            if getattr(self, name) < 1:
                found.append(f"{where}.{name} must be at least 1, got {getattr(self, name)}")
        if self.max_timeouts < 0:
            found.append(f"{where}.max_timeouts must be at least 0, got {self.max_timeouts}")
        if self.gpus is not None and self.gpus < 0:
            found.append(f"{where}.gpus must be at least 0, got {self.gpus}")
        if self.signal_seconds > MAX_SIGNAL_SECONDS:
            found.append(f"{where}.signal_seconds must be at most {MAX_SIGNAL_SECONDS}")
        for name in self.additional:
            if str(name).replace("_", "-") in OPTIONS_OF_JOBS:
                found.append(
                    f"{where}.additional.{name} is an option that alps sets itself: leave it out"
                )
        texts = (self.name, self.account, self.partition, self.qos, self.constraint, self.mem)
        for text in (*texts, *map(str, self.additional.values())):
            if text is not None and not text.isprintable():
                found.append(f"{where}: {text!r} has characters that sbatch options cannot contain")
        if self.mem is not None and not re.fullmatch(r"[1-9]\d*[KMGT]?", self.mem):
            found.append(f"{where}.mem={self.mem} is not an amount of memory: write it as 64G")
        try:
            limit = 60 * minutes(self.time)
        except ValueError as error:
            return [*found, f"{where}.{error}"]
        if limit <= self.signal_seconds:
            found.append(
                f"{where}.time={self.time} ends before a checkpoint is written: request more "
                f"than {where}.signal_seconds={self.signal_seconds}"
            )
        return found


def minutes(limit: str | int) -> int:
    """A time limit in whole minutes.

    Raises:
        ValueError: If sbatch would not read it either.
    """
    text = str(limit)
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d\d))?(?::(\d\d))?", text)
    if not found:
        raise ValueError(f"time={limit} is no time limit: write minutes, hh:mm:ss or d-hh:mm:ss")
    days, *rest = found.groups()
    first, second, third = (int(part or 0) for part in rest)
    if days is not None or rest[2] is not None:
        hours, mins, seconds = first, second, third
    else:  # sbatch reads 90 and 90:00 as minutes
        hours, mins, seconds = 0, first, second
    total = ((int(days or 0) * 24 + hours) * 60 + mins) * 60 + seconds
    return -(-total // 60)
