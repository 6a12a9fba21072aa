"""SLURM's commands: submit, queue, cancel, requeue.

Nothing depends on the cluster's accounting (`sacct`), which small clusters do not have.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel")

DEFAULT_MAX_ARRAY_SIZE = 1001
"""SLURM's own default of `MaxArraySize`."""

TIMEOUT = 60
"""Longest wait for an answer of the controller, in seconds."""

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL",
         "DEADLINE", "PREEMPTED")  # fmt: skip
"""States of jobs that will not run again."""


class SlurmError(RuntimeError):
    """SLURM refuses, or does not answer; the message is one sentence."""


class QueueUnavailable(SlurmError):
    """The controller does not answer."""


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job in the queue.

    Attributes:
        id: Job id, with the element of its array: `7_0`.
        state: SLURM's name of its state: `PENDING`, `RUNNING`, ...
        reason: Why it is pending, or `None`.
        nodes: Nodes it runs on, or empty.
        script: Path of its script.
    """

    id: str
    state: str
    reason: str
    nodes: str
    script: str


def missing_requirement() -> str | None:
    """Why this machine cannot submit jobs, as one sentence with the remedy, or None."""
    gone = [command for command in COMMANDS if shutil.which(command) is None]
    if gone:
        return f"SLURM needs {' and '.join(gone)}: run this where jobs are submitted"
    return None


def queued_jobs() -> dict[str, QueuedJob]:
    """This user's pending and running jobs by id; elements of arrays one by one.

    Raises:
        QueueUnavailable: If the controller does not answer.
    """
    fields = "%i|%T|%r|%N|%o"
    said = _run("squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--format={fields}")
    found = {}
    for line in said.splitlines():
        job, state, reason, nodes, script = line.strip().split("|", 4)
        found[job] = QueuedJob(id=job, state=state, reason=reason, nodes=nodes, script=script)
    return found


def job_state(job: str) -> str | None:
    """State of a job as long as the controller knows it (minutes after its end), or None.

    Raises:
        QueueUnavailable: If the controller does not answer.
    """
    try:
        said = _run("scontrol", "show", "job", "--oneliner", job)
    except QueueUnavailable as error:
        if "nvalid job id" in str(error):
            return None
        if f"Job {job} not found" in str(error):  # the array is known: cancelled before its start
            return "CANCELLED"
        raise
    found = re.search(r"JobState=(\w+)", said)
    return found[1] if found else None


def is_preempted(job: str) -> bool:
    """Whether a job runs in the grace time that a preemption leaves it.

    Raises:
        QueueUnavailable: If the controller does not answer.
    """
    said = _run("scontrol", "show", "job", "--oneliner", job)
    found = re.search(r"PreemptTime=(\S+)", said)
    return "JobState=RUNNING" in said and found is not None and found[1] != "None"


def max_array_size() -> int:
    """Elements that an array may have: the cluster's `MaxArraySize`."""
    try:
        said = _run("scontrol", "show", "config")
    except QueueUnavailable:
        return DEFAULT_MAX_ARRAY_SIZE
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.MULTILINE)
    return max(1, int(found[1])) if found else DEFAULT_MAX_ARRAY_SIZE


def submit_script(script: Path) -> str:
    """Submits a script; returns the job's id.

    Raises:
        SlurmError: If the cluster does not take it.
    """
    command = ["sbatch", "--parsable", str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=outside_of_jobs(os.environ)
    )
    if done.returncode:
        raise SlurmError(f"sbatch did not take the jobs ({_last_error(done.stderr)})")
    return done.stdout.strip().split(";")[0]


def cancel_jobs(jobs: Iterable[str]) -> None:
    """Cancels jobs; those that have ended already are no error.

    Raises:
        SlurmError: If SLURM refuses.
    """
    ids = list(jobs)
    if not ids:
        return
    done = subprocess.run(["scancel", *ids], capture_output=True, text=True, check=False)
    if done.returncode and "nvalid job id" not in done.stderr:
        raise SlurmError(f"scancel: {_last_error(done.stderr)}")


def requeue_job(job: str) -> None:
    """Puts a running job back into the queue; SLURM then ends this attempt.

    Raises:
        SlurmError: If SLURM refuses.
    """
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SlurmError(f"scontrol requeue: {_last_error(done.stderr)}")


def outside_of_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the variables of a surrounding job.

    The user's settings of SLURM (`SLURM_CONF`, `SBATCH_...`) stay.
    """
    prefixes = ("SLURM_", "SLURMD_", "SRUN_", "PMI_", "PMIX_")
    kept = {n: v for n, v in environment.items() if not n.startswith(prefixes)}
    if "SLURM_CONF" in environment:
        kept["SLURM_CONF"] = environment["SLURM_CONF"]
    return kept


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueUnavailable(f"{command[0]} does not answer ({error})") from None
    if done.returncode:
        reason = _last_error(done.stderr or done.stdout)
        raise QueueUnavailable(f"{command[0]} does not answer ({reason})")
    return done.stdout


def _last_error(said: str) -> str:
    """The last line of an error message, without the name of the command."""
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].split("error: ", 1)[-1].strip() if lines else "no message"
