"""The runs of a sweep as SLURM jobs, submitted by dependency.

Results are read from run folders; the queue only says whether a job is still there. Nothing depends
on the cluster's accounting (`sacct`), which small clusters do not have.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import alps
from alps.base.serialization import to_dict
from alps.launch.slurm_job import TrainingJob
from alps.launch.slurm_settings import Slurm, minutes
from alps.runs.folder import RunFolder
from alps.settings.run import Run

log = logging.getLogger(__name__)


def missing_requirement() -> str | None:
    """Why this machine cannot submit jobs, as one sentence with the remedy, or None."""
    if find_spec("submitit") is None:
        return "hydra/launcher=slurm needs submitit: pip install 'alps[slurm]'"
    gone = [c for c in ("sbatch", "srun", "squeue", "scontrol") if shutil.which(c) is None]
    if gone:
        return f"hydra/launcher=slurm needs {' and '.join(gone)}: run it where jobs are submitted"
    return None


def run_jobs(
    runs: Sequence[Run], slurm: Slurm, jobs_dir: Path, on_jobs_ended: Callable[[], None]
) -> Mapping[str, str]:
    """Submits every unfinished run, waits for all, and returns the failures.

    A task model is a job of its own; the jobs of runs that need it wait in the queue without a GPU.
    They start even if it failed: the first of them then trains the task model.

    Args:
        runs: Points of a sweep; equal runs become one job.
        slurm: Resources of a job.
        jobs_dir: Folder of submitit's scripts and logs.
        on_jobs_ended: Called whenever jobs have left the queue.

    Returns:
        Key of each failed run of the sweep -> reason.

    Raises:
        ValueError: If the cluster rejects all jobs.
    """
    if problem := too_few_gpus(runs, slurm):
        raise ValueError(problem)
    requested = {run.key: run for run in runs}
    jobs, refused = submit(missing_runs(requested.values()), slurm, jobs_dir)
    try:
        wait_for_jobs(jobs, slurm.poll_seconds, on_jobs_ended)
    except KeyboardInterrupt:
        ids = sorted({job.split("_")[0] for job in jobs.values()})
        log.warning("no longer waiting; the jobs go on. To end them: scancel %s", " ".join(ids))
        raise
    reasons = {key: failure_reason(run, jobs.get(key), jobs_dir) for key, run in requested.items()}
    reasons.update(refused)
    return {key: r for key, r in reasons.items() if r is not None and key in requested}


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


def missing_runs(runs: Iterable[Run]) -> list[Run]:
    """Unfinished runs, and the missing task models that they need."""
    found: dict[str, Run] = {}
    for run in runs:
        if _finished(run):
            continue
        task = run.task_run()
        chosen = RunFolder(run.folder).training_path.exists()  # its heads are selected
        if task is not None and not chosen and not RunFolder(task.folder).has_weights("qkv"):
            found.setdefault(task.key, task)
        found[run.key] = run  # with the requested benchmarks
    return list(found.values())


def submit(
    runs: Sequence[Run], slurm: Slurm, jobs_dir: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Submits one array of independent runs, and one per task model of the runs that need it.

    Returns:
        Key -> job, and key -> reason of a rejection.

    Raises:
        ValueError: If the cluster rejects all jobs.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    groups: dict[str | None, list[Run]] = {}
    keys = {run.key for run in runs}
    for run in runs:
        task = run.task_run()
        groups.setdefault(task.key if task and task.key in keys else None, []).append(run)
    jobs: dict[str, str] = {}
    refused: dict[str, str] = {}
    for needed in sorted(groups, key=lambda k: k is not None):  # independent runs first
        executor = submitit.SlurmExecutor(jobs_dir, max_num_timeout=slurm.max_timeouts)
        executor.update_parameters(**executor_parameters(slurm, jobs.get(needed or "")))
        members = groups[needed]
        work = TrainingJob(slurm.cpus, slurm.signal_seconds)
        try:
            with _outside_of_jobs():
                submitted = executor.map_array(work, [to_dict(run) for run in members])
        except FailedJobError as error:
            refused |= dict.fromkeys((run.key for run in members), _refusal(error))
            continue
        for run, job in zip(members, submitted, strict=True):
            jobs[run.key] = job.job_id
            log.info("job %s: %s", job.job_id, run.key)
    if refused and not jobs:
        raise ValueError(next(iter(refused.values())))
    return jobs, refused


def executor_parameters(slurm: Slurm, after: str | None = None) -> dict[str, Any]:
    """Parameters of submitit's executor.

    Args:
        slurm: Resources of a job.
        after: Job to wait for, whether it succeeds or fails.
    """
    # Supports a checkout that is not installed, and scripts that clean the environment.
    path = f'export PYTHONPATH="{Path(alps.__file__).parents[1]}${{PYTHONPATH:+:$PYTHONPATH}}"'
    options = {
        "job_name": slurm.name,
        "account": slurm.account,
        "partition": slurm.partition,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "gpus_per_node": slurm.gpus,
        "cpus_per_task": slurm.cpus,
        "mem": slurm.mem,
        "dependency": f"afterany:{after}" if after else None,
    }
    return {
        **{name: value for name, value in options.items() if value is not None},
        "time": minutes(slurm.time),
        "nodes": 1,
        "ntasks_per_node": 1,  # ranks are workers of that one task
        "srun_args": [f"--cpus-per-task={slurm.cpus}"],  # since 22.05 srun doesn't take the job's
        "setup": [*slurm.setup, path],
        "signal_delay_s": slurm.signal_seconds,
        "array_parallelism": slurm.parallel,
        "additional_parameters": dict(slurm.additional),
    }


def wait_for_jobs(
    jobs: Mapping[str, str], poll_seconds: float, on_jobs_ended: Callable[[], None]
) -> None:
    """Waits until no job is in the queue, and logs each run that has ended.

    Args:
        jobs: Key of a run -> its job.
        poll_seconds: Maximum interval between queries.
        on_jobs_ended: Called whenever jobs have left the queue.
    """
    left, pause, silent, logged = dict(jobs), 1.0, False, ""
    gone_before: set[str] = set()
    while left:
        time.sleep(min(pause, poll_seconds))
        pause *= 1.5
        try:
            there = queued_jobs()
        except (OSError, subprocess.SubprocessError) as error:
            if not silent:
                said = (getattr(error, "stderr", None) or str(error)).strip()
                log.warning("the queue does not answer (%s); still waiting", said)
            silent = True
            continue
        silent = False
        # A job that is being requeued may be missing briefly.
        gone = {key for key, job in left.items() if job not in there}
        for key in sorted(gone & gone_before):
            log.info("job %s ended: %s", left.pop(key), key)
        if gone & gone_before:
            on_jobs_ended()
        gone_before = gone
        # A job that requests too much waits for ever; the logged reason says so.
        counts = Counter(there[job] for job in left.values() if job in there)
        summary = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        if summary not in ("", logged):
            log.info("jobs: %s", summary)
            logged = summary


def queued_jobs() -> dict[str, str]:
    """This user's pending and running jobs -> state; array elements one by one, as 7_0."""
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T %r"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = {}
    for line in done.stdout.splitlines():
        job, state, reason = line.split(maxsplit=2)
        found[job] = state.lower() if reason == "None" else f"{state.lower()} ({reason})"
    return found


def failure_reason(run: Run, job: str | None, jobs_dir: Path) -> str | None:
    """Why a run is not finished, or None; the end of its job is recorded in its status."""
    if _finished(run):
        return None
    folder = RunFolder(run.folder)
    status, state = folder.status(), job_state(job) if job else None
    if status["state"] == "running":
        return "another process is running it"
    if status["state"] == "failed" and state in (None, "COMPLETED", "FAILED"):
        return status["reason"]
    reason = (
        f"SLURM job {job} ended {state or 'without a trace'}; the same command goes on from there "
        f"(log: {jobs_dir / f'{job}_0_log.err'})"
    )
    if folder.settings_path.exists():
        folder.set_status("stopped", reason)
    return reason


def job_state(job: str) -> str | None:
    """Final state of a job, while the controller still knows it (minutes)."""
    command = ["scontrol", "show", "job", "--oneliner", job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"JobState=(\w+)", done.stdout)
    return found[1] if found else None


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hides variables of a surrounding job, but not the user's settings of SLURM."""
    from submitit.helpers import clean_env

    settings = {n: v for n, v in os.environ.items() if n == "SLURM_CONF" or n.startswith("SBATCH_")}
    with clean_env():
        os.environ.update(settings)
        yield


def _finished(run: Run) -> bool:
    from alps.runs.completion import is_finished

    return is_finished(run, RunFolder(run.folder))


def _refusal(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "error:" in line]
    said = lines[-1].split("error:")[-1].strip() if lines else " ".join(str(error).split())
    return f"sbatch did not take the jobs ({said}): see the settings of hydra.launcher"
