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

ENDED = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL",
    "DEADLINE", "PREEMPTED", "REVOKED",
)  # fmt: skip
"""States of jobs that will not run again."""

RUNNING = (
    "RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED",
    "SUSPENDED",
)  # fmt: skip
"""States of jobs that have nodes."""


class SlurmError(RuntimeError):
    """SLURM refuses, or does not answer; the message is one sentence."""


class QueueUnavailable(SlurmError):
    """The controller does not answer."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that the controller knows.

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

    @property
    def queued(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in ENDED


def missing_requirement() -> str | None:
    """Why this machine cannot submit jobs, as one sentence with the remedy, or None."""
    gone = [command for command in COMMANDS if shutil.which(command) is None]
    if gone:
        return f"{', '.join(gone)} not found: run this on a machine that submits jobs"
    return None


def known_jobs() -> dict[str, Job]:
    """This user's jobs by id, elements of arrays one by one; ended ones for some minutes.

    One question, as each costs the controller the same whatever it is about.

    Raises:
        QueueUnavailable: If the controller does not answer.
    """
    which = ("--all", "--states=all", f"--user={os.getuid()}")  # in hidden partitions, too
    said = _run("squeue", "--noheader", "--array", *which, "--format=%i|%T|%N|%r|%o")
    found = {}
    for line in said.splitlines():
        parts = line.strip().split("|", 4)
        if len(parts) < 5 or not re.fullmatch(r"\d+(_\d+)?", parts[0]):
            continue  # the rest of a command of several lines
        job, state, nodes, reason, script = parts
        found[job] = Job(id=job, state=state, reason=reason, nodes=nodes, script=script)
    return found


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


def submit_script(script: Path) -> str | None:
    """Submits a script; returns the job's id, or None if sbatch does not say it.

    Raises:
        SlurmError: If the cluster does not take it.
        QueueUnavailable: If nobody knows whether it did: the answer did not arrive.
    """
    command = ["sbatch", "--parsable", str(script)]
    done = _call(*command, env=submission_environment(os.environ))
    if done.returncode:
        reason = _last_error(done.stderr)
        if any(text in reason.lower() for text in ("timed out", "unable to contact", "zero bytes")):
            raise QueueUnavailable(f"sbatch got no response ({reason})")
        raise SlurmError(f"sbatch rejected the jobs ({reason})")
    # Clusters may print a greeting before; with several of them, the id is `7;name`.
    ids = re.findall(r"^(\d+)(?:;\S+)?$", done.stdout, re.MULTILINE)
    return ids[-1] if ids else None


def cancel_jobs(jobs: Iterable[str]) -> None:
    """Cancels jobs; those that have ended already are no error.

    Raises:
        SlurmError: If SLURM refuses.
    """
    if not (ids := list(jobs)):
        return
    done = _call("scancel", *ids)
    if done.returncode and "nvalid job id" not in done.stderr:
        raise SlurmError(f"scancel: {_last_error(done.stderr)}")


def requeue_job(job: str) -> None:
    """Puts a running job back into the queue; SLURM then ends this attempt.

    Raises:
        SlurmError: If SLURM refuses.
    """
    done = _call("scontrol", "requeue", job)
    if done.returncode:
        raise SlurmError(f"scontrol requeue: {_last_error(done.stderr)}")


def submission_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for sbatch in which only the script says what it asks for.

    Without variables of a surrounding job, and without those of sbatch that would replace options
    of the script in silence. How SLURM is reached, and account, partition and the like, stay.
    """
    inside = "SLURM_JOB_ID" in environment
    own = {f"SBATCH_{name}" for name in SET_BY_SCRIPT}
    kept = {}
    for name, value in environment.items():
        job = name.startswith(JOB_PREFIXES) and name not in REACHING_SLURM
        if not job and name not in own and not (inside and name in OF_RANKS):
            kept[name] = value
    return kept


SET_BY_SCRIPT = (
    "ARRAY_INX", "DEPENDENCY", "JOB_NAME", "KILL_INVALID_DEP", "NO_REQUEUE", "OPEN_MODE", "OUTPUT",
    "REQUEUE", "SIGNAL", "TIMELIMIT", "WAIT", "WAIT_ALL_NODES", "WRAP",
)  # fmt: skip
JOB_PREFIXES = ("SLURM_", "SLURMD_", "SRUN_", "PMI_", "PMIX_")
REACHING_SLURM = ("SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS")
OF_RANKS = (
    "CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "RANK",
    "WORLD_SIZE",
)  # fmt: skip


def _run(*command: str) -> str:
    done = _call(*command)
    if done.returncode:
        reason = _last_error(done.stderr or done.stdout)
        raise QueueUnavailable(f"{command[0]} does not answer ({reason})")
    return done.stdout


def _call(*command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    hidden = ("SQUEUE_STATES", "SQUEUE_PARTITION", "SQUEUE_FORMAT", "SQUEUE_FORMAT2")
    env = {n: v for n, v in (env or os.environ).items() if n not in hidden}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=env
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueUnavailable(f"{command[0]} does not answer ({error})") from None


def _last_error(said: str) -> str:
    """The last line of an error message, without the name of the command."""
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].split("error: ", 1)[-1].strip() if lines else "no message"
