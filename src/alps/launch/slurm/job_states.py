"""What becomes of runs: their folders joined with the queue."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alps.launch.slurm.cluster import RUNNING, Job
from alps.launch.slurm.queue_view import QueueView
from alps.launch.slurm.submission import Attempt, Attempts, Entry, is_done
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
        queued: Whether that job is in the queue, or may be, as the queue does not answer.
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
    asked = list(entries)
    everything = {**last_entries(queue.attempts), **{entry.key: entry for entry in asked}}

    def state(key: str) -> RunState | None:
        if key not in known and key in everything:
            entry = everything[key]
            needed = state(entry.needs) if entry.needs else None
            attempts = queue.attempts.get(key, ())
            cwd = attempts[-1].submission.cwd if attempts else os.curdir
            with chdir(cwd if os.path.isdir(cwd) else os.curdir):  # of relative paths in settings
                known[key] = _state(entry, queue, needed)
        return known.get(key)

    return [found for entry in asked if (found := state(entry.key))]


def last_entries(attempts: Attempts) -> dict[str, Entry]:
    """Key -> what was submitted last."""
    return {key: each[-1].entry for key, each in attempts.items()}


def _state(entry: Entry, queue: QueueView, needed: RunState | None) -> RunState:
    attempts = queue.attempts.get(entry.key, ())
    attempt = attempts[-1] if attempts else None
    common: dict[str, Any] = {"attempt": len(attempts), "job": attempt.job if attempt else None}
    live = queue.live(entry.key)
    job = live[-1][1] if live else None
    failure, readable = None, True
    try:
        if is_done(entry) and not (job and _is_trained_again(entry)):
            queued = {"queued": True, "job": job.id} if job else {}
            return RunState(entry=entry, state="finished", **{**common, **queued})
    except RunFailed as error:
        failure = str(error)
    except (OSError, ValueError) as error:
        failure, readable = str(error), False
    silent = queue.jobs is None and attempt is not None
    if job is not None:
        state, reason = _queued_state(job, needed)
        running = state == "running"
        return RunState(
            entry=entry, state=state, reason=reason, queued=True, **{**common, "job": job.id},
            node=job.nodes if running else "",
            progress=_progress(entry) if running and readable else None,
        )  # fmt: skip
    if failure is not None:
        state = "failed" if readable else "unknown"
        return RunState(entry=entry, state=state, reason=failure, queued=silent, **common)
    status = _status(entry)
    if status["state"] == "running":
        node = str(status.get("host", ""))
        found = _progress(entry)
        return RunState(
            entry=entry, state="running", node=node, progress=found, queued=silent, **common
        )
    if silent:
        reason = "the queue does not answer"
        return RunState(entry=entry, state="unknown", reason=reason, queued=True, **common)
    state, reason = _ended_state(entry, attempt, status, needed, queue)
    return RunState(entry=entry, state=state, reason=reason, **common)


def _is_trained_again(entry: Entry) -> bool:
    """Whether a finished run's weights are missing, for another run that needs them."""
    return entry.weights != "drop" and not RunFolder(entry.run.folder).has_weights(entry.weights)


def _queued_state(job: Job, needed: RunState | None) -> tuple[State, str]:
    if job.state in RUNNING:
        return "running", "" if job.state == "RUNNING" else job.state.lower()
    if job.reason.startswith("Dependency"):
        if needed is not None and needed.state != "finished":
            return "blocked", f"by its task model {needed.entry.key} ({needed.state})"
        return "blocked", f"by another job ({job.reason})"
    if job.state != "PENDING":  # REQUEUE_HOLD, SPECIAL_EXIT, ...
        return "waiting", f"{job.state}; scontrol release {job.id}"
    return "waiting", job.reason


def _ended_state(
    entry: Entry,
    attempt: Attempt | None,
    status: Mapping[str, Any],
    needed: RunState | None,
    queue: QueueView,
) -> tuple[State, str]:
    """State of a run that no process and no job is at."""
    if attempt is None:
        reason = status["reason"] or ""
        return (status["state"], reason) if status["state"] in ENDED_BADLY else ("missing", "")
    if (said := _text(attempt.cancelled_path)) is not None:
        return "stopped", said
    if (said := _text(attempt.failed_path)) is not None:
        return "failed", said
    if entry.needs is not None and needed is not None and not attempt.log.exists():
        # It never started: its job left the queue with a dependency that could not be met.
        return "blocked", f"by its task model {needed.entry.key} ({needed.state})"
    of_earlier = attempt.job is not None and status.get("job") not in (None, attempt.job)
    if status["state"] in ("failed", "stopped") and not (of_earlier or status.get("crashed")):
        return status["state"], status["reason"] or ""
    known = queue.known(attempt)
    ended = known.state if known else "without a trace"
    job = f"its job {attempt.job}" if attempt.job else "its job"
    if ended == "CANCELLED":
        return "stopped", f"{job} was cancelled; `alps retry` submits it again"
    full = f"; no space is left on the disk of {entry.run.output_dir}" if _disk_full(entry) else ""
    return "lost", f"{job} ended {ended}; log: {attempt.log}{full}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


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
