"""Cancelling and submitting again: what follows from the states of runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import chdir
from pathlib import Path

from alps.base.atomic import write_text
from alps.launch.slurm.cluster import SlurmError, cancel_jobs
from alps.launch.slurm.job_states import ENDED_BADLY, RunState
from alps.launch.slurm.queue_view import QueueView
from alps.launch.slurm.settings import Slurm
from alps.launch.slurm.submission import Attempt, Attempts, submit_lock
from alps.launch.slurm.submit import Submitted, missing_entries, submit

CANCELLED = "cancelled; `alps retry` submits it again"


def with_dependents(states: Sequence[RunState], chosen: Collection[str]) -> dict[str, str | None]:
    """Keys in the queue to cancel -> the chosen run that each depends on; None for itself.

    Args:
        states: All that was submitted.
        chosen: Keys of runs to cancel.
    """
    queued = {s.entry.key: s for s in states if s.queued}
    found: dict[str, str | None] = {key: None for key in queued if key in chosen}
    growing = True
    while growing:
        more = {
            key: found[needs] or needs
            for key, each in queued.items()
            if key not in found and (needs := each.entry.needs) in found
        }
        found |= more
        growing = bool(more)
    return found


def cancel(keys: Collection[str], queue: QueueView, output_dir: str) -> dict[str, list[str]]:
    """Cancels all jobs of some runs that are in the queue; one that trains writes a checkpoint.

    Args:
        keys: Of the runs.
        queue: All that was submitted, and the queue.
        output_dir: Outputs folder.

    Returns:
        Key -> jobs that were cancelled.

    Raises:
        SlurmError: If SLURM refuses, or does not answer.
        OSError: If the submissions are another user's.
    """
    with submit_lock(output_dir):
        live = {key: queue.live(key) for key in keys}
        attempts = [(attempt, job) for each in live.values() for attempt, job in each]
        for attempt, _ in attempts:  # first, as a job whose time is up would requeue itself
            write_text(attempt.cancelled_path, CANCELLED)
        try:
            cancel_jobs(job.id for _, job in attempts)
        except SlurmError:
            for attempt, _ in attempts:
                attempt.cancelled_path.unlink(missing_ok=True)
            raise
    return {key: [job.id for _, job in each] for key, each in live.items() if each}


def retry(
    states: Iterable[RunState],
    attempts: Attempts,
    output_dir: str,
    change: Callable[[Slurm], Slurm] = lambda slurm: slurm,
) -> list[Submitted]:
    """Submits runs again that ended without finishing, with the settings of their last jobs.

    Args:
        states: The runs; those that are in the queue or finished are left alone.
        attempts: All that was submitted.
        output_dir: Outputs folder.
        change: New resources of a job.

    Returns:
        One for each former submission.

    Raises:
        QueueUnavailable: If the queue does not answer; nothing more was submitted then.
    """
    groups: dict[Path, list[Attempt]] = {}
    for each in states:
        if each.state in ENDED_BADLY and not each.queued:
            attempt = attempts[each.entry.key][-1]
            groups.setdefault(attempt.submission.folder, []).append(attempt)
    done, output_dir = [], str(Path(output_dir).absolute())
    for members in groups.values():
        former = members[0].submission
        runs = [a.entry.run for a in members if a.entry.kind == "train"]
        bases = [a.entry.run for a in members if a.entry.kind == "evaluate"]
        with chdir(former.cwd):
            done.append(
                submit(
                    missing_entries(runs, bases),
                    change(former.slurm),
                    output_dir,
                    weights=former.weights,
                    protected=former.protected,
                    fail_fast=former.fail_fast,
                )
            )
    return done
