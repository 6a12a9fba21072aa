"""The runs of a sweep as SLURM jobs: submitted in order, waited for.

What came of a run is read from its folder; the queue is asked only whether a job is still there.
So nothing depends on the cluster's accounting (`sacct`), which small clusters do not have.
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
    """What this machine lacks to submit jobs, as a sentence with the remedy."""
    if find_spec("submitit") is None:
        return "hydra/launcher=slurm needs submitit: pip install 'alps[slurm]'"
    gone = [c for c in ("sbatch", "srun", "squeue", "scontrol") if shutil.which(c) is None]
    if gone:
        return f"hydra/launcher=slurm needs {' and '.join(gone)}: run it where jobs are submitted"
    return None


def run_jobs(
    runs: Sequence[Run], slurm: Slurm, jobs_dir: Path, on_jobs_ended: Callable[[], None]
) -> Mapping[str, str]:
    """Submits every run that is not finished, waits for all, and says which failed.

    A task model that several runs need is a job of its own, and theirs wait for it in the queue
    without holding a GPU. They start however it ended: a task model that is still missing is then
    trained by the first of them.

    Args:
        runs: Points of a sweep; two that are one run become one job.
        slurm: What to ask the cluster for.
        jobs_dir: Where submitit keeps scripts and logs.
        on_jobs_ended: Called whenever jobs have left the queue.

    Returns:
        Key of each run asked for that failed -> reason.

    Raises:
        ValueError: If the cluster takes none of them.
    """
    if problem := too_few_gpus(runs, slurm):
        raise ValueError(problem)
    asked = {run.key: run for run in runs}
    jobs, refused = submit(missing_runs(asked.values()), slurm, jobs_dir)
    try:
        wait_for_jobs(jobs, slurm.poll_seconds, on_jobs_ended)
    except KeyboardInterrupt:
        ids = sorted({job.split("_")[0] for job in jobs.values()})
        log.warning("no longer waiting; the jobs go on. To end them: scancel %s", " ".join(ids))
        raise
    told = {key: failure_reason(run, jobs.get(key), jobs_dir) for key, run in asked.items()}
    told.update(refused)
    return {key: reason for key, reason in told.items() if reason is not None and key in asked}


def too_few_gpus(runs: Iterable[Run], slurm: Slurm) -> str | None:
    """Why a job has fewer GPUs than its run uses, as a sentence with the remedy."""
    trainers = [run.trainer for run in runs]
    if slurm.gpus is None:
        on_gpus = [t for t in trainers if t.accelerator == "gpu" and not slurm.asks_for_gpus]
        if not on_gpus:
            return None
        most = max(on_gpus, key=lambda t: t.devices)
        return (
            f"trainer={most.name} trains on GPUs (trainer.accelerator=gpu), but the jobs ask for "
            f"none: set hydra.launcher.gpus={most.devices}"
        )
    wanted = max((t.devices for t in trainers), default=0)
    if slurm.gpus >= wanted:
        return None
    return (
        f"hydra.launcher.gpus={slurm.gpus} is fewer than trainer.devices={wanted}: ask for as many"
    )


def missing_runs(runs: Iterable[Run]) -> list[Run]:
    """Runs with something left to do, and the task models that they need and nobody has made."""
    found: dict[str, Run] = {}
    for run in runs:
        if _finished(run):
            continue
        task = run.task_run()
        chosen = RunFolder(run.folder).training_path.exists()  # its heads are known
        if task is not None and not chosen and not RunFolder(task.folder).has_weights("qkv"):
            found.setdefault(task.key, task)
        found[run.key] = run  # as asked for, benchmarks included
    return list(found.values())


def submit(
    runs: Sequence[Run], slurm: Slurm, jobs_dir: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """One array for the runs that need nothing, and one for those behind each task model.

    Returns:
        Key -> job, and key -> why the cluster refused it.

    Raises:
        ValueError: If it refused all.
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
    for needed in sorted(groups, key=lambda k: k is not None):  # first those that need nothing
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
    """What submitit's executor is told.

    Args:
        slurm: What to ask for.
        after: Job to wait for, however it ends.
    """
    # A checkout that isn't installed works too, and a script that cleans the environment.
    path = f'export PYTHONPATH="{Path(alps.__file__).parents[1]}${{PYTHONPATH:+:$PYTHONPATH}}"'
    asked = {
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
        **{name: value for name, value in asked.items() if value is not None},
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
    """Returns when no job is in the queue any more; says which run is through.

    Args:
        jobs: Key of a run -> its job.
        poll_seconds: Longest pause between two looks.
        on_jobs_ended: Called whenever jobs have left the queue.
    """
    left, pause, silent, told = dict(jobs), 1.0, False, ""
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
        # A job that is being requeued may be missing for an instant.
        gone = {key for key, job in left.items() if job not in there}
        for key in sorted(gone & gone_before):
            log.info("job %s ended: %s", left.pop(key), key)
        if gone & gone_before:
            on_jobs_ended()
        gone_before = gone
        # A job that asks for more than there is waits for ever; its reason tells.
        counts = Counter(there[job] for job in left.values() if job in there)
        summary = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        if summary not in ("", told):
            log.info("jobs: %s", summary)
            told = summary


def queued_jobs() -> dict[str, str]:
    """This user's jobs that wait or run -> state; elements of an array one by one, as 7_0."""
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T %r"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = {}
    for line in done.stdout.splitlines():
        job, state, reason = line.split(maxsplit=2)
        found[job] = state.lower() if reason == "None" else f"{state.lower()} ({reason})"
    return found


def failure_reason(run: Run, job: str | None, jobs_dir: Path) -> str | None:
    """Why a run is not finished, or None if it is; what SLURM did is put into its status."""
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
    """How a job ended, as long as the controller remembers it (minutes)."""
    command = ["scontrol", "show", "job", "--oneliner", job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"JobState=(\w+)", done.stdout)
    return found[1] if found else None


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hides the job that we may be in ourselves, but not what the user told SLURM."""
    from submitit.helpers import clean_env

    told = {n: v for n, v in os.environ.items() if n == "SLURM_CONF" or n.startswith("SBATCH_")}
    with clean_env():
        os.environ.update(told)
        yield


def _finished(run: Run) -> bool:
    from alps.runs.completion import is_finished

    return is_finished(run, RunFolder(run.folder))


def _refusal(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "error:" in line]
    said = lines[-1].split("error:")[-1].strip() if lines else " ".join(str(error).split())
    return f"sbatch did not take the jobs ({said}): see the settings of hydra.launcher"
