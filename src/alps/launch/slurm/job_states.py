"""What becomes of runs: their folders joined with the queue."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from alps.launch.slurm.cluster import QueuedJob, QueueUnavailable, job_state
from alps.launch.slurm.queue_view import QueueView
from alps.launch.slurm.submission import Attempt, Entry, is_done
from alps.runs.completion import evaluation_folders
from alps.runs.folder import RunFolder
from alps.runs.metrics import Progress, read_progress
from alps.runs.result import RunFailed

State = Literal[
    "finished", "running", "waiting", "blocked", "failed", "stopped", "lost", "missing", "unknown"
]

ENDED_BADLY: tuple[State, ...] = ("failed", "stopped", "lost", "blocked", "missing")
"""States of runs that no job is at, but of `blocked` ones that still wait in the queue."""

MIN_FREE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What became of a run, or of the evaluation of a base model.

    Attributes:
        entry: The run.
        state: `running`; `waiting` for resources; `blocked` by another run; `failed` with a reason;
            `stopped` by a signal; `lost`: its job is gone and nobody knows why; `missing`: never
            submitted; `unknown`: the queue does not answer, or a file of the run is not there.
        reason: One sentence, or empty.
        job: Its last job, or None.
        queued: Whether that job is in the queue.
        attempt: How many times it has been submitted.
        node: Where it runs.
        progress: Steps of its training.
    """

    entry: Entry
    state: State
    reason: str = ""
    job: str | None = None
    queued: bool = False
    attempt: int = 0
    node: str = ""
    progress: Progress | None = None


def run_states(entries: Iterable[Entry], queue: QueueView) -> list[RunState]:
    """States of runs, in order.

    Args:
        entries: The runs.
        queue: Last attempts, and the queue; its `jobs` are None if it does not answer.
    """
    known: dict[str, RunState] = {}
    everything = {key: attempt.entry for key, attempt in queue.attempts.items()}
    asked = list(entries)
    everything |= {entry.key: entry for entry in asked}

    def state(key: str) -> RunState | None:
        if key in known:
            return known[key]
        if key not in everything:
            return None
        entry = everything[key]
        needed = state(entry.needs) if entry.needs else None
        known[key] = _state(entry, queue, needed)
        return known[key]

    return [found for entry in asked if (found := state(entry.key))]


def _state(entry: Entry, queue: QueueView, needed: RunState | None) -> RunState:
    attempt = queue.attempts.get(entry.key)
    common = {"job": attempt.job if attempt else None, "attempt": attempt.number if attempt else 0}
    try:
        if is_done(entry):
            return RunState(entry=entry, state="finished", **common)
    except RunFailed as error:
        return RunState(entry=entry, state="failed", reason=str(error), **common)
    except (OSError, ValueError) as error:  # a file that the run names, seen from another folder
        return RunState(entry=entry, state="unknown", reason=str(error), **common)
    status = _status(entry)
    try:
        job = queue.job(entry.key)
    except QueueUnavailable:
        job = None
    if job is not None:
        common |= {"job": job.id}
        state, reason = _queued_state(job, needed)
        running = state == "running"
        return RunState(
            entry=entry, state=state, reason=reason, queued=True, **common,
            node=job.nodes if running else "", progress=_progress(entry) if running else None,
        )  # fmt: skip
    if status["state"] == "running":
        node = str(status.get("host", ""))
        found = _progress(entry)
        return RunState(entry=entry, state="running", node=node, progress=found, **common)
    if queue.jobs is None and attempt is not None:
        reason = "the queue does not answer"
        return RunState(entry=entry, state="unknown", reason=reason, **common)
    state, reason = _ended_state(entry, attempt, status, needed)
    return RunState(entry=entry, state=state, reason=reason, **common)


def _queued_state(job: QueuedJob, needed: RunState | None) -> tuple[State, str]:
    if job.state != "PENDING":
        return "running", "" if job.state == "RUNNING" else job.state.lower()
    if job.reason.startswith("Dependency"):
        if needed is not None and needed.state != "finished":
            return "blocked", f"by its task model {needed.entry.key} ({needed.state})"
        return "blocked", f"by another job ({job.reason})"
    return "waiting", job.reason


def _ended_state(
    entry: Entry, attempt: Attempt | None, status: Mapping[str, Any], needed: RunState | None
) -> tuple[State, str]:
    """State of a run that no process and no job is at."""
    if attempt is not None and attempt.cancelled_path.exists():
        return "stopped", "cancelled; `alps retry` submits it again"
    of_earlier = attempt is not None and status.get("job") not in (None, attempt.job)
    status = {"state": "unknown", "reason": ""} if of_earlier else status
    reason = status["reason"] or ""
    if status["state"] == "failed":
        return "failed", reason
    in_vain = needed is not None and needed.state in ENDED_BADLY and not needed.queued
    if attempt is not None and needed is not None and in_vain:
        # Its job left the queue with the dependency that cannot be met any more.
        return "blocked", f"by its task model {needed.entry.key} ({needed.state})"
    stopped = status["state"] == "stopped"
    if stopped and (attempt is None or not status.get("crashed")):
        return "stopped", reason
    if attempt is None:
        return "missing", ""
    ended = "without a trace"
    if attempt.job is not None:
        with suppress(QueueUnavailable):
            ended = job_state(attempt.job) or ended
    if ended == "CANCELLED":
        return "stopped", f"its job {attempt.job} was cancelled; `alps retry` submits it again"
    full = f"; no space is left on the disk of {entry.run.output_dir}" if _disk_full(entry) else ""
    return "lost", f"its job {attempt.job or ''} ended {ended}; log: {attempt.log}{full}"


def _disk_full(entry: Entry) -> bool:
    """Whether the outputs have no space left: a job can then say nothing about its end."""
    try:
        return shutil.disk_usage(entry.run.output_dir).free < MIN_FREE_BYTES
    except OSError:
        return False


def _status(entry: Entry) -> Mapping[str, Any]:
    """Status of its folder; of a base model, of the folder that was worked in last."""
    run = entry.run
    if entry.kind == "train":
        return RunFolder(run.folder).status()
    folders: Sequence[RunFolder] = [p.folder for p in evaluation_folders(run, trained=False)]
    if any(folder.path.exists() and folder.is_locked() for folder in folders):
        return {"state": "running", "reason": ""}
    return {"state": "unknown", "reason": ""}


def _progress(entry: Entry) -> Progress | None:
    if entry.kind == "evaluate":
        return None
    return read_progress(RunFolder(entry.run.folder))
