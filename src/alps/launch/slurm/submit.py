"""Submits what is missing of some runs, task models first, and returns at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alps.base.atomic import write_text
from alps.base.serialization import to_dict
from alps.launch.slurm.cluster import (
    QueueUnavailable,
    SlurmError,
    max_array_size,
    submit_script,
)
from alps.launch.slurm.queue_view import QueueView
from alps.launch.slurm.script import array_script
from alps.launch.slurm.settings import Slurm
from alps.launch.slurm.submission import (
    Array,
    Entry,
    Submission,
    new_submission,
    read_attempts,
    submit_lock,
)
from alps.runs.completion import (
    base_is_finished,
    has_nothing_left,
    missing_task_model,
    num_task_models,
)
from alps.runs.folder import RunFolder
from alps.settings.run import Run, Weights

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Submitted:
    """What became of the entries of a command.

    Attributes:
        folder: Folder of the submission, or None if there was nothing to submit.
        jobs: Key -> its new job.
        queued: Key -> its job that was in the queue before.
        running: Key -> host of a process without a job that is at it; a new job waits for it if
            other runs need it.
        refused: Key -> why the cluster did not take it.
    """

    folder: Path | None = None
    jobs: dict[str, str] = field(default_factory=dict)
    queued: dict[str, str] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def too_few_gpus(runs: Iterable[Run], slurm: Slurm) -> str | None:
    """Why a job has too few GPUs for its run, as one sentence with the remedy, or None."""
    trainers = [run.trainer for run in runs]
    if slurm.gpus is None:
        on_gpus = [t for t in trainers if t.accelerator == "gpu" and not slurm.asks_for_gpus]
        if not on_gpus:
            return None
        most = max(on_gpus, key=lambda t: t.num_devices)
        return (
            f"trainer={most.name} trains on GPUs (trainer.accelerator=gpu), but the jobs request "
            f"none: set hydra.launcher.gpus={most.num_devices}"
        )
    wanted = max((t.num_devices for t in trainers if t.devices != "auto"), default=0)
    if slurm.gpus >= wanted:
        return None
    return (
        f"hydra.launcher.gpus={slurm.gpus} is fewer than trainer.devices={wanted}: request as many"
    )


def missing_entries(
    runs: Iterable[Run], bases: Iterable[Run] = (), finished: bool = False
) -> list[Entry]:
    """Unfinished runs, the missing task models that they need, and evaluations of base models.

    Args:
        runs: Runs to train; those of one key become one entry with the benchmarks of all.
        bases: Runs whose base models are evaluated.
        finished: Whether to list finished ones, too.

    Raises:
        ValueError: If runs of one key evaluate the same benchmark in different ways.
    """
    found: dict[str, Entry] = {}

    def add(run: Run, weights: Weights) -> None:
        if run.key in found:
            if weights != "drop":
                found[run.key] = replace(found[run.key], weights=weights)
            return
        task = missing_task_model(run)
        if task is not None:
            add(task, "qkv")
        found[run.key] = Entry(
            key=run.key,
            kind="train",
            settings=to_dict(run),
            needs=task.key if task else None,
            weights=weights,
        )

    merged = _with_all_benchmarks(runs, lambda run: run.key)
    for run in sorted(merged, key=num_task_models):  # a command's own runs serve as task models
        if finished or not has_nothing_left(run):
            add(run, "drop")
    for run in _with_all_benchmarks(bases, lambda run: run.base_data_key):
        if finished or not base_is_finished(run):
            key = run.base_data_key
            found[key] = Entry(key=key, kind="evaluate", settings=to_dict(run))
    return list(found.values())


def _with_all_benchmarks(runs: Iterable[Run], key: Callable[[Run], str]) -> list[Run]:
    """One run for each key, with the benchmarks of all; outputs by their absolute path."""
    found: dict[str, Run] = {}
    for run in runs:
        # Jobs and shells may look from other folders.
        here = replace(run, output_dir=str(Path(run.output_dir).absolute()))
        before = found.setdefault(key(run), here)
        ours, theirs = before.evals, run.evals
        if not ours.benchmarks or not theirs.benchmarks:
            found[key(run)] = replace(before, evals=ours if ours.benchmarks else theirs)
            continue
        more = [b for b in theirs.benchmarks if b not in ours.benchmarks]
        same = {b.name for b in ours.benchmarks} & {b.name for b in more}
        if same or replace(theirs, benchmarks=ours.benchmarks, name=ours.name) != ours:
            what = ", ".join(sorted(same)) or "benchmarks"
            raise ValueError(
                f"{key(run)} evaluates {what} in two ways: submit these settings of evals one "
                "after the other"
            )
        evals = replace(ours, benchmarks=(*ours.benchmarks, *more))
        found[key(run)] = replace(before, evals=evals)
    return list(found.values())


def submit(
    entries: Sequence[Entry],
    slurm: Slurm,
    output_dir: Path | str,
    *,
    weights: Weights = "keep",
    protected: Iterable[str] = (),
    fail_fast: bool = False,
) -> Submitted:
    """Submits the entries that no job and no process is at.

    Args:
        entries: Task models before the runs that need them.
        slurm: Resources of a job.
        output_dir: Outputs folder.
        weights: Retention policy, applied whenever a job ends.
        protected: Keys of runs whose weights stay whatever the policy.
        fail_fast: Whether the first failure cancels the other jobs of this command.

    Raises:
        QueueUnavailable: If the queue does not answer; nothing was submitted then.
        ValueError: If a former submission cannot be read.
    """
    with submit_lock(output_dir):
        queue = QueueView.now(read_attempts(output_dir))
        new, done = _to_submit(entries, queue)
        groups = _grouped(new, queue)
        submission = new_submission(
            output_dir,
            slurm,
            [entry for group in groups.values() for entry in group],
            weights=weights,
            protected=sorted(protected),
            fail_fast=fail_fast,
        )
        if new:
            submission.write()
            done.folder = submission.folder
        _submit(submission, groups, done, max_array_size(), _send)
    return done


def dry_run(
    entries: Sequence[Entry], slurm: Slurm, output_dir: Path | str, queue: QueueView
) -> list[str]:
    """Texts of the scripts that `submit` would submit, with placeholders for ids of jobs."""
    scripts: list[str] = []

    def send(submission: Submission, array: Array, text: str) -> Array:
        scripts.append(text)
        return replace(array, job=f"<job-{len(scripts)}>")

    new, done = _to_submit(entries, queue)
    groups = _grouped(new, queue)
    ordered = [entry for group in groups.values() for entry in group]
    submission = new_submission(output_dir, slurm, ordered)
    _submit(submission, groups, done, max_array_size(), send)
    return scripts


def _to_submit(entries: Sequence[Entry], queue: QueueView) -> tuple[list[Entry], Submitted]:
    """Entries that no job and no process is at, and what is known of the others.

    A task model that a process without a job trains has a job, too, which waits for its lock: else
    each run that needs it would wait there, with resources of its own.
    """
    done, new = Submitted(), []
    needed = {entry.needs for entry in entries}
    for entry in entries:
        live = queue.live(entry.key)
        covering = [job for attempt, job in live if _covers(attempt.entry, entry)]
        if covering:
            done.queued[entry.key] = covering[-1].id
        elif not live and (host := _host(entry)):
            done.running[entry.key] = host
            if entry.key in needed:
                new.append(entry)
        else:
            new.append(entry)
    return new, done


def _send(submission: Submission, array: Array, text: str) -> Array:
    """Submits a script; the manifest knows it before the cluster does.

    Raises:
        SlurmError: If the cluster does not take it, or nobody knows whether it did.
    """
    script = submission.script(array)
    write_text(script, text)
    submission.with_array(array).write_arrays()
    try:
        array = replace(array, job=submit_script(script))
    except QueueUnavailable:
        raise  # it may be in the queue: the next command finds it there
    except SlurmError:
        submission.without_array(array).write_arrays()
        raise
    submission.with_array(array).write_arrays()
    return array


def _submit(
    submission: Submission,
    groups: Mapping[_Group, Sequence[Entry]],
    done: Submitted,
    largest: int,
    send: Callable[[Submission, Array, str], Array],
) -> None:
    """Submits groups of entries, in order, as arrays of at most `largest` elements."""
    first = 0
    for (_, needs, after, nodes), group in groups.items():
        for start in range(0, len(group), largest):
            part = group[start : start + largest]
            position, first = first, first + len(part)
            keys = [entry.key for entry in part]
            if submission.failed_path.exists():
                failed = submission.failed_path.read_text()
                done.refused |= dict.fromkeys(keys, f"{failed} failed (fail_fast=true)")
                continue
            if needs in done.refused:
                reason = f"its task model {needs} was not submitted"
                done.refused |= dict.fromkeys(keys, reason)
                continue
            task = done.jobs.get(needs or "") or done.queued.get(needs or "")
            depends = [*after, *([f"afterok:{task}"] if task else [])]
            array = Array(first=position, count=len(part), after=depends)
            text = array_script(submission, array, nodes)
            try:
                array = send(submission, array, text)
            except SlurmError as error:
                done.refused |= dict.fromkeys(keys, str(error))
                if isinstance(error, QueueUnavailable):
                    submission = submission.with_array(array)
                continue
            submission = submission.with_array(array)
            done.jobs |= {key: f"{array.job or '?'}_{i}" for i, key in enumerate(keys)}


_Group = tuple[int, str | None, tuple[str, ...], int]
"""Stage, key of the task model, further dependencies, and number of nodes of some entries."""


def _grouped(entries: Sequence[Entry], queue: QueueView) -> dict[_Group, list[Entry]]:
    """Entries that can share an array, task models first."""
    by_key = {entry.key: entry for entry in entries}
    groups: dict[_Group, list[Entry]] = {}

    def stage(entry: Entry) -> int:
        task = by_key.get(entry.needs or "")
        return 1 + stage(task) if task else 0

    for entry in sorted(entries, key=lambda e: e.weights == "drop"):  # others wait for task models
        # A job of the same run evaluates other benchmarks.
        after = tuple(f"afterany:{job.id}" for _, job in queue.live(entry.key))
        nodes = entry.run.trainer.num_nodes if entry.kind == "train" else 1
        groups.setdefault((stage(entry), entry.needs, after, nodes), []).append(entry)
    return dict(sorted(groups.items(), key=lambda item: item[0][0]))


def _covers(queued: Entry, entry: Entry) -> bool:
    """Whether a job in the queue does all that an entry asks for."""
    theirs, ours = queued.run.evals, entry.run.evals
    same_precision = theirs.precision == ours.precision
    return all(b in theirs.allowed and same_precision for b in ours.allowed)


def _host(entry: Entry) -> str | None:
    """Host of a process without a job that is at the run, or None."""
    if entry.kind == "evaluate":
        return None
    status = RunFolder(entry.run.folder).status()
    return str(status.get("host", "another host")) if status["state"] == "running" else None
