"""`alps submit`: the runs of a table or sweep as SLURM jobs, without waiting for them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from alps.cli.arguments import top_level_name, without_multirun
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import error_sentence, exit_on_bad_input
from alps.cli.train import dropped_weights

if TYPE_CHECKING:
    from alps.launch.slurm.settings import Slurm
    from alps.launch.slurm.submission import Entry
    from alps.launch.slurm.submit import Submitted
    from alps.settings.run import Run, Weights

DRY_RUN = "--dry-run"


def submit(arguments: Sequence[str]) -> None:
    """Submits runs as SLURM jobs and returns.

    Settings are those of alps train and of its launcher (hydra.launcher.gpus=1). Runs that need a
    task model depend on its job. Runs that are finished, running or queued are not submitted again.
    --dry-run prints the scripts and submits nothing.
    """
    from alps.launch.slurm.cluster import QueueUnavailable, missing_requirement
    from alps.launch.slurm.submit import missing_entries
    from alps.launch.slurm.submit import submit as submit_entries
    from alps.pipeline.retention import already_trained_task_models

    dry = DRY_RUN in arguments
    settings = without_multirun([a for a in arguments if a != DRY_RUN])
    with exit_on_bad_input():
        if not dry and (problem := missing_requirement()):
            raise ValueError(f"{problem}; alps submit --dry-run shows what it would submit")
        slurm, grid = launcher_settings(settings)
        if problems := list(dropped_weights(grid)):
            raise ValueError("; ".join(problems))
        if not grid:
            raise ValueError("nothing to submit: name a table, as in alps submit experiment=table1")
        weights, fail_fast = submission_settings(grid)
        runs, bases = requested_runs(grid)
        check(runs, bases, slurm)
        entries = missing_entries(runs, bases)
        if dry:
            print_scripts(entries, slurm, runs[0])
            return
    try:
        done = submit_entries(
            entries,
            slurm,
            runs[0].output_dir,
            weights=weights,
            protected=already_trained_task_models(runs),
            fail_fast=fail_fast,
        )
    except (QueueUnavailable, ValueError, OSError) as error:
        print(f"error: {error_sentence(error)}; nothing was submitted", file=sys.stderr)
        sys.exit(1)
    asked = {*(run.key for run in runs), *(run.base_data_key for run in bases)}
    finished = len(asked - {entry.key for entry in entries})
    table = shlex.join(_without_launcher(settings)) if _names_experiment(grid) else ""
    sys.exit(print_submitted([done], table, finished))


def launcher_settings(arguments: Sequence[str]) -> tuple[Slurm, list[str]]:
    """Resources of a job, and the other arguments.

    Raises:
        ValueError: If they are invalid, or other settings of Hydra are among the arguments.
    """
    from alps.config.launcher import job_settings

    own = [a for a in arguments if a.lstrip("+~").startswith(("hydra.launcher", "hydra/launcher"))]
    grid = [a for a in arguments if a not in own]
    for argument in grid:
        if argument.startswith("-") or "=" not in argument:
            raise ValueError(f"'{argument}' is not understood: settings are name=value")
        if argument.lstrip("+~").startswith("hydra"):
            raise ValueError(f"{argument}: of Hydra's settings only hydra.launcher has an effect")
    return job_settings(own), grid


def requested_runs(grid: Sequence[str]) -> tuple[list[Run], list[Run]]:
    """The runs of a grid or experiment, and runs whose base models its table shows.

    Raises:
        ValueError: If some of them is invalid.
    """
    from alps.cli.plan import base_evaluations, experiment_runs

    experiments = experiment_runs(grid, variants=True)
    rows = base_evaluations(experiments, grid) if _names_experiment(grid) else {}
    runs = [run for each in experiments.values() for run in each]
    return runs, [run for each in rows.values() for run in each.runs]


def check(runs: Sequence[Run], bases: Sequence[Run], slurm: Slurm) -> None:
    """Checks runs with their models and data, before anything is submitted.

    Raises:
        SettingsError: All problems together.
    """
    from alps.base.serialization import SettingsError
    from alps.config.run_checks import check_runs
    from alps.launch.slurm.submit import too_few_gpus

    if problem := too_few_gpus(runs, slurm):
        raise SettingsError([problem])
    if len({run.output_dir for run in runs}) > 1:
        raise SettingsError(["output_dir is one folder for all runs of a command"])
    check_runs([f"point [{run.key}]: " for run in runs], runs)
    check_runs([f"point [{run.base_data_key}]: " for run in bases], bases, trains=False)


def submission_settings(grid: Sequence[str]) -> tuple[Weights, bool]:
    """`weights` and `fail_fast` of the command.

    Raises:
        SettingsError: If they are invalid.
    """
    from alps.config.build import compose_config

    names = ("weights", "fail_fast")
    config = compose_config([a for a in grid if top_level_name(a) in names])
    return config.weights, config.fail_fast


def print_scripts(entries: Sequence[Entry], slurm: Slurm, run: Run) -> None:
    """Prints the scripts of a dry run."""
    from alps.launch.slurm.cluster import QueueUnavailable
    from alps.launch.slurm.queue_view import QueueView
    from alps.launch.slurm.submission import read_attempts
    from alps.launch.slurm.submit import dry_run

    attempts = read_attempts(run.output_dir)
    try:
        queue = QueueView.now(attempts)
    except QueueUnavailable:
        queue = QueueView(attempts=attempts)
    scripts = dry_run(entries, slurm, run.output_dir, queue)
    print(
        "\n".join(scripts)
        if scripts
        else "nothing to submit: all runs are finished, queued or running"
    )


def print_submitted(submitted: Sequence[Submitted], table: str, finished: int = 0) -> int:
    """Prints what became of a submission and the next commands; returns the exit code.

    Args:
        submitted: What was submitted.
        table: Settings that name the table of these runs, or empty.
        finished: Number of runs that were finished before.
    """
    jobs = {key: job for each in submitted for key, job in each.jobs.items()}
    for array in dict.fromkeys(job.split("_")[0] for job in jobs.values()):
        keys = [key for key, job in jobs.items() if job.split("_")[0] == array]
        print(f"job {array}: {len(keys)} of {len(jobs)} runs: {_some(keys)}")
    for each in submitted:
        if each.queued:
            print(f"already queued: {_some([f'{k} ({j})' for k, j in each.queued.items()])}")
        for key, host in each.running.items():
            waits = f"job {each.jobs[key]} waits for" if key in each.jobs else "not submitted:"
            print(f"{waits} {key}, which runs on {host} without a job")
    if finished:
        print(f"already finished: {finished}")
    refused = {key: reason for each in submitted for key, reason in each.refused.items()}
    for reason in dict.fromkeys(refused.values()):
        keys = [key for key, why in refused.items() if why == reason]
        print(
            f"error: {_some(keys)}: {reason}; see the settings of hydra.launcher", file=sys.stderr
        )
    if not jobs and not refused:
        print("nothing to submit: all runs are finished, queued or running")
    if jobs:
        print(f"\nnext: alps status {table}".rstrip())
        print("      alps logs KEY -f")
        print("      alps cancel [FILTER]")
        if table:
            print(f"      alps report {table}")
    if refused:
        print("repeat the command to submit the rest")
    return 1 if refused else 0


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def _names_experiment(grid: Sequence[str]) -> bool:
    return any(argument.startswith("experiment=") for argument in grid)


def _without_launcher(settings: Sequence[str]) -> list[str]:
    return [a for a in settings if not a.lstrip("+~").startswith("hydra") and a[:8] != "weights="]


def sections() -> Sections:
    """Settings of the command: those of `alps train`, and of a job."""
    from alps.cli.setting_docs import dataclass_settings, group_settings, root_settings
    from alps.launch.slurm.settings import Slurm

    job = dataclass_settings(Slurm, prefix="hydra.launcher.")
    return {
        "Settings": root_settings("train"),
        "Choices, files of conf/NAME": group_settings(),
        "Settings of a job": job,
    }


command = SettingsCommand(
    submit,
    sections,
    (
        "alps submit experiment=table1 hydra.launcher.partition=gpu hydra.launcher.gpus=1",
        "alps submit method=alps,random ratio=0.1,0.3 hydra.launcher.time=4:00:00",
        "alps submit --dry-run experiment=table3 scale=mini model=tiny",
    ),
    metavar="[--dry-run] [NAME=VALUE]...",
)
