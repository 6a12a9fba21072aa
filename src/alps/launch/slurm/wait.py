"""The waiting command of `hydra/launcher=slurm`: submits as `alps submit` does, and waits."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from alps.launch.slurm.cluster import QueueUnavailable, SlurmError
from alps.launch.slurm.job_states import RunState, run_states
from alps.launch.slurm.queue_view import QueueView
from alps.launch.slurm.settings import Slurm
from alps.launch.slurm.submission import Entry, read_attempts
from alps.launch.slurm.submit import missing_entries, submit, too_few_gpus
from alps.pipeline.retention import already_trained_task_models
from alps.settings.run import Run, Weights

log = logging.getLogger(__name__)


def run_jobs(
    runs: Sequence[Run],
    slurm: Slurm,
    on_jobs_ended: Callable[[], None],
    weights: Weights = "keep",
    fail_fast: bool = False,
) -> Mapping[str, str]:
    """Submits every unfinished run, waits for all, and returns the failures.

    Args:
        runs: Points of a sweep; equal runs become one job.
        slurm: Resources of a job.
        on_jobs_ended: Called whenever jobs have left the queue.
        weights: Retention policy.
        fail_fast: Whether the first failure cancels the other jobs.

    Returns:
        Key of each failed run of the sweep -> reason.

    Raises:
        ValueError: If the queue does not answer, or the cluster rejects all jobs.
    """
    if problem := too_few_gpus(runs, slurm):
        raise ValueError(problem)
    output_dir, entries = runs[0].output_dir, missing_entries(runs)
    try:
        done = submit(
            entries,
            slurm,
            output_dir,
            weights=weights,
            protected=already_trained_task_models(runs),
            fail_fast=fail_fast,
        )
    except SlurmError as error:
        raise ValueError(str(error)) from None
    for key, job in {**done.queued, **done.jobs}.items():
        log.info("job %s: %s", job, key)
    if done.refused and not done.jobs:
        reason = next(iter(done.refused.values()))
        raise ValueError(f"{reason}: see the settings of hydra.launcher")
    waiting = [entry for entry in entries if entry.key not in done.refused]
    try:
        states = wait_for_jobs(waiting, output_dir, slurm.poll_seconds, on_jobs_ended)
    except KeyboardInterrupt:
        log.warning(
            "no longer waiting; the jobs keep running (alps status). To end them: alps cancel"
        )
        raise
    failures = {s.entry.key: _failure(s) for s in states if s.state != "finished"}
    failures |= done.refused
    requested = {run.key for run in runs}
    return {key: reason for key, reason in failures.items() if key in requested}


def wait_for_jobs(
    entries: Sequence[Entry],
    output_dir: Path | str,
    poll_seconds: float,
    on_jobs_ended: Callable[[], None],
) -> list[RunState]:
    """Waits until nothing is at these runs any more; returns their states.

    Args:
        entries: The runs.
        output_dir: Outputs folder.
        poll_seconds: Longest interval between two questions.
        on_jobs_ended: Called whenever jobs have left the queue.
    """
    pause, silent, logged, left = 1.0, False, "", {entry.key for entry in entries}
    states: list[RunState] = []
    while left:
        time.sleep(min(pause, poll_seconds))
        pause *= 1.5
        try:
            states = run_states(entries, QueueView.now(read_attempts(output_dir)))
        except QueueUnavailable as error:
            if not silent:
                log.warning("%s; still waiting", error)
            silent = True
            continue
        silent = False
        there = {s.entry.key for s in states if s.queued or s.state == "running"}
        for each in states:
            if each.entry.key in left - there:
                log.info("job %s ended: %s %s", each.job, each.entry.key, each.state)
        if left - there:
            on_jobs_ended()
        left &= there
        # A job that requests too much waits for ever; the logged reason says so.
        counts = Counter(
            f"{s.state} ({s.reason})" if s.reason and s.state == "waiting" else s.state
            for s in states
            if s.entry.key in left
        )
        summary = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        if summary not in ("", logged):
            log.info("jobs: %s", summary)
            logged = summary
    return states


def _failure(state: RunState) -> str:
    how = "the same command goes on from there"
    if state.state == "blocked":
        return f"it needs {state.reason.removeprefix('by ')}; {how}"
    if state.state in ("lost", "stopped"):
        return f"{state.state}: {state.reason}; {how}" if how not in state.reason else state.reason
    return state.reason or state.state
