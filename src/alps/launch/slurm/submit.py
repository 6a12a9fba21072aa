"""Submits what is missing of some runs, task models first, and returns at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alps.base.atomic import write_text
from alps.base.serialization import to_dict
from alps.launch.slurm.cluster import SlurmError, max_array_size, submit_script
from alps.launch.slurm.queue_view import QueueView
from alps.launch.slurm.script import array_script
from alps.launch.slurm.settings import Slurm
from alps.launch.slurm.submission import (
    Array,
    Entry,
    new_submission,
    read_attempts,
    submit_lock,
)
from alps.pipeline.retention import already_trained_task_models
from alps.runs.completion import (
    base_is_finished,
    has_nothing_left,
    missing_task_model,
    num_task_models,
)
from alps.runs.folder import RunFolder
from alps.settings.run import Run, Weights

log = logging.getLogger(__name__)

Send = Callable[[Path, str], str]
"""Submits a script, given its path and text; returns the job's id."""


@dataclass(kw_only=True)
class Submitted:
    """What became of the entries of a command.

    Attributes:
        folder: Folder of the submission, or None if there was nothing to submit.
        jobs: Key -> its new job.
        queued: Key -> its job that was in the queue before.
        running: Key -> host of a process without a job that is at it.
        refused: Key -> why the cluster did not take it.
        arrays: Number of arrays submitted.
    """

    folder: Path | None = None
    jobs: dict[str, str] = field(default_factory=dict)
    queued: dict[str, str] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    arrays: int = 0


def too_few_gpus(runs: Iterable[Run], slurm: Slurm) -> str | None:
    """Why a job has too few GPUs for its run, as one sentence with the remedy, or None."""
    trainers = [run.trainer for run in runs]
    if slurm.gpus is None:
        on_gpus = [t for t in trainers if t.accelerator == "gpu" and not slurm.asks_for_gpus]
        if not on_gpus:
            return None
        most = max(on_gpus, key=lambda t: t.num_devices)
        return (
            f"trainer={most.name} trains on GPUs (trainer.accelerator=gpu), but the jobs ask for "
            f"none: set hydra.launcher.gpus={most.num_devices}"
        )
    wanted = max((t.num_devices for t in trainers if t.devices != "auto"), default=0)
    if slurm.gpus >= wanted:
        return None
    return (
        f"hydra.launcher.gpus={slurm.gpus} is fewer than trainer.devices={wanted}: ask for as many"
    )


def missing_entries(
    runs: Iterable[Run], bases: Iterable[Run] = (), finished: bool = False
) -> list[Entry]:
    """Unfinished runs, the missing task models that they need, and evaluations of base models.

    Args:
        runs: Runs to train.
        bases: Runs whose base models are evaluated.
        finished: Whether to list finished ones, too.
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

    # Jobs and shells may look from other folders.
    runs = [replace(run, output_dir=str(Path(run.output_dir).absolute())) for run in runs]
    bases = [replace(run, output_dir=str(Path(run.output_dir).absolute())) for run in bases]
    for run in sorted(runs, key=num_task_models):  # a command's own runs serve as task models
        if finished or not has_nothing_left(run):
            add(run, "drop")
    for run in bases:
        if finished or not base_is_finished(run):
            key = run.base_data_key
            found[key] = Entry(key=key, kind="evaluate", settings=to_dict(run))
    return list(found.values())


def submit(
    entries: Sequence[Entry],
    slurm: Slurm,
    output_dir: Path | str,
    *,
    weights: Weights = "keep",
    fail_fast: bool = False,
) -> Submitted:
    """Submits the entries that no job and no process is at.

    Args:
        entries: Task models before the runs that need them.
        slurm: Resources of a job.
        output_dir: Outputs folder.
        weights: Retention policy, applied whenever a job ends.
        fail_fast: Whether the first failure cancels the other jobs of this command.

    Raises:
        QueueUnavailable: If the queue does not answer; nothing was submitted then.
    """
    with submit_lock(output_dir):
        runs = [entry.run for entry in entries if entry.kind == "train"]
        protected = sorted(already_trained_task_models(runs))
        settings = {"weights": weights, "protected": protected, "fail_fast": fail_fast}
        queue = QueueView.now(read_attempts(output_dir))
        return _submit(entries, slurm, output_dir, queue, settings, _send, max_array_size())


def dry_run(
    entries: Sequence[Entry], slurm: Slurm, output_dir: Path | str, queue: QueueView
) -> list[str]:
    """Texts of the scripts that `submit` would submit, with placeholders for ids of jobs."""
    scripts: list[str] = []

    def send(path: Path, text: str) -> str:
        scripts.append(text)
        return f"<job-{len(scripts)}>"

    settings: dict[str, Any] = {}
    _submit(entries, slurm, output_dir, queue, settings, send, max_array_size(), write=False)
    return scripts


def _submit(
    entries: Sequence[Entry],
    slurm: Slurm,
    output_dir: Path | str,
    queue: QueueView,
    settings: Mapping[str, Any],
    send: Send,
    largest: int,
    write: bool = True,
) -> Submitted:
    done = Submitted()
    new: list[Entry] = []
    for entry in entries:
        job = queue.job(entry.key)
        if job is not None and _covers(queue.attempts[entry.key].entry, entry):
            done.queued[entry.key] = job.id
        elif job is None and (host := _host(entry)):
            done.running[entry.key] = host
        else:
            new.append(entry)
    groups = _grouped(new, queue)
    ordered = [entry for group in groups.values() for entry in group]
    submission = new_submission(output_dir, slurm, ordered, **settings)
    if ordered and write:
        submission.write()
        done.folder = submission.folder
    first = 0
    for (_, needs, after, nodes), group in groups.items():
        if needs in done.refused:
            reason = f"its task model {needs} was not submitted"
            done.refused |= dict.fromkeys((entry.key for entry in group), reason)
        for start in range(0, len(group), largest):
            part = group[start : start + largest]
            position, first = first, first + len(part)
            if part[0].key in done.refused:
                continue
            task = done.jobs.get(needs or "") or done.queued.get(needs or "")
            depends = [*after, *([f"afterok:{task}"] if task else [])]
            array = Array(first=position, count=len(part), after=depends)
            script = submission.script(array)
            text = array_script(
                slurm, submission.folder, position, [e.key for e in part], nodes, depends
            )
            if write:
                write_text(script, text)
                submission = submission.with_array(array)
                submission.write()
            try:
                array = replace(array, job=send(script, text))
            except SlurmError as error:
                done.refused |= dict.fromkeys((entry.key for entry in part), str(error))
                submission = submission.without_array(array)
            else:
                submission = submission.with_array(array)
                done.arrays += 1
                done.jobs |= {e.key: f"{array.job}_{i}" for i, e in enumerate(part)}
            if write:
                submission.write()
    return done


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
        job = queue.job(entry.key)  # it evaluates other benchmarks of the same run
        after = (f"afterany:{job.id}",) if job else ()
        nodes = entry.run.trainer.num_nodes if entry.kind == "train" else 1
        groups.setdefault((stage(entry), entry.needs, after, nodes), []).append(entry)
    return dict(sorted(groups.items(), key=lambda item: item[0][0]))


def _covers(queued: Entry, entry: Entry) -> bool:
    """Whether a job in the queue does all that an entry asks for."""
    theirs, ours = queued.run.evals, entry.run.evals
    benchmarks = [to_dict(b) for b in theirs.allowed]
    same_precision = theirs.precision == ours.precision
    return all(to_dict(b) in benchmarks and same_precision for b in ours.allowed)


def _host(entry: Entry) -> str | None:
    """Host of a process without a job that is at the run, or None."""
    if entry.kind == "evaluate":
        return None
    status = RunFolder(entry.run.folder).status()
    return str(status.get("host", "another host")) if status["state"] == "running" else None


def _send(script: Path, text: str) -> str:
    return submit_script(script)
