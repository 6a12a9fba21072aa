"""Cancelling and submitting again: what follows from the states of runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from alps.launch.slurm.cluster import cancel_jobs
from alps.launch.slurm.job_states import ENDED_BADLY, RunState
from alps.launch.slurm.settings import Slurm
from alps.launch.slurm.submission import Attempt
from alps.launch.slurm.submit import Submitted, missing_entries, submit


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


def cancel(states: Iterable[RunState], attempts: Mapping[str, Attempt]) -> None:
    """Cancels the jobs of some runs; one that trains stops with a checkpoint.

    Args:
        states: Of the runs.
        attempts: Key -> its last attempt.

    Raises:
        SlurmError: If SLURM refuses.
    """
    jobs = {each.entry.key: each.job for each in states if each.queued and each.job is not None}
    for key in jobs:
        attempts[key].cancelled_path.touch()
    cancel_jobs(jobs.values())


def retry(
    states: Iterable[RunState],
    attempts: Mapping[str, Attempt],
    output_dir: str,
    change: Callable[[Slurm], Slurm] = lambda slurm: slurm,
) -> list[Submitted]:
    """Submits runs again that ended without finishing, with the settings of their last jobs.

    Args:
        states: The runs; those that are in the queue or finished are left alone.
        attempts: Key -> its last attempt.
        output_dir: Outputs folder.
        change: New resources of a job.

    Returns:
        One for each former submission.

    Raises:
        QueueUnavailable: If the queue does not answer; nothing was submitted then.
    """
    groups: dict[Path, list[Attempt]] = {}
    for each in states:
        if each.state in ENDED_BADLY and not each.queued:
            attempt = attempts[each.entry.key]
            groups.setdefault(attempt.submission.folder, []).append(attempt)
    done = []
    for members in groups.values():
        former = members[0].submission
        runs = [a.entry.run for a in members if a.entry.kind == "train"]
        bases = [a.entry.run for a in members if a.entry.kind == "evaluate"]
        policy = {"weights": former.weights, "fail_fast": former.fail_fast}
        entries = missing_entries(runs, bases)
        done.append(submit(entries, change(former.slurm), output_dir, **policy))
    return done
