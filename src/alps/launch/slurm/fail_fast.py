"""`fail_fast=true`: the first failure of a command cancels its other jobs."""

from __future__ import annotations

import logging

from alps.base.atomic import write_text
from alps.launch.slurm.cluster import SlurmError, cancel_jobs
from alps.launch.slurm.job_states import run_states
from alps.launch.slurm.queue_view import QueueView
from alps.launch.slurm.submission import Attempt, Entry, Submission, is_done, read_attempts

log = logging.getLogger(__name__)


def cancel_others(failed: Attempt) -> None:
    """Cancels the other jobs of the command, and those that it has not submitted yet."""
    write_text(failed.submission.failed_path, failed.entry.key)
    reason = f"cancelled, as {failed.entry.key} failed (fail_fast=true)"
    others = [
        attempt
        for attempt in Submission.read(failed.submission.folder).attempts()
        if attempt.entry.key != failed.entry.key and not _is_done(attempt.entry)
    ]
    try:
        for attempt in others:
            write_text(attempt.cancelled_path, reason)
        cancel_jobs(attempt.job for attempt in others if attempt.job is not None)
    except (SlurmError, OSError) as error:
        log.warning("%s failed, but the other jobs go on: %s", failed.entry.key, error)


def cancel_if_lost(submission: Submission) -> None:
    """Cancels all jobs of the command if one was lost.

    A job that the OOM killer or its node took with it cannot do so itself: the others look when
    they start and when they end.
    """
    if not submission.fail_fast or submission.failed_path.exists():
        return
    try:
        attempts = read_attempts(submission.folder.parents[1])
        queue = QueueView.now(attempts)
        last = [each[-1] for each in attempts.values()]
        # A command that still submits has not written every id.
        ours = [a for a in last if a.submission.folder == submission.folder and a.job is not None]
        states = run_states([attempt.entry for attempt in ours], queue)
    except (SlurmError, OSError, ValueError) as error:
        log.warning("fail_fast=true: nobody knows whether another job was lost: %s", error)
        return
    for attempt, state in zip(ours, states, strict=True):
        known = queue.known(attempt)
        # What a job on another node has just written may not be visible here yet.
        if state.state == "lost" and (known is None or known.state != "COMPLETED"):
            cancel_others(attempt)
            return


def _is_done(entry: Entry) -> bool:
    try:
        return is_done(entry)
    except Exception:  # its own job says why
        return False
