"""`hydra/launcher=slurm`: Hydra looks for launchers in this namespace only.

Hydra imports this file whenever it starts, so everything else is imported where it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SlurmLauncher(Launcher):
    """Makes runs of a sweep's points, hands them to `alps.launch.slurm`, and tells who failed."""

    def __init__(self, **settings: Any) -> None:
        """Keeps what `conf/hydra/launcher/slurm.yaml` says."""
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Refuses settings and machines that cannot work, before any folder is made."""
        from omegaconf import OmegaConf

        from alps.base.serialization import SettingsError, from_dict
        from alps.config.errors import refuse
        from alps.launch.slurm import missing_requirement
        from alps.launch.slurm_settings import Slurm

        self.config, self.loader = config, hydra_context.config_loader
        plain = OmegaConf.to_container(OmegaConf.create(self.settings), resolve=True)
        assert isinstance(plain, dict)
        try:
            self.slurm = from_dict({str(k): v for k, v in plain.items()}, Slurm, "hydra.launcher")
        except SettingsError as error:
            raise SystemExit(refuse(error.problems)) from None
        if problem := missing_requirement():
            raise SystemExit(refuse([problem]))

    def problems(self, runs: Sequence[Any]) -> Iterator[str]:
        """Sentences about runs that these settings cannot hold."""
        from alps.launch.slurm import too_few_gpus

        if problem := too_few_gpus(runs, self.slurm):
            yield problem

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs every point as a job and waits for all of them."""
        from pathlib import Path

        from alps.config.build import build
        from alps.config.callback import planned
        from alps.config.errors import refuse
        from alps.launch.slurm import run_jobs

        points = [self.loader.load_sweep_config(self.config, list(o)) for o in job_overrides]
        runs = [build(point) for point in points]
        if not planned.complete:
            planned.add(runs, self.config.weights)
        planned.started = True

        def on_jobs_ended() -> None:
            if planned.complete:
                planned.reduce()

        jobs_dir = Path(self.config.hydra.sweep.dir) / "jobs"
        try:
            failures = run_jobs(runs, self.slurm, jobs_dir, on_jobs_ended)
        except ValueError as error:
            raise SystemExit(refuse([str(error)])) from None
        for key, reason in failures.items():
            print(f"error: {key}: {reason}", file=sys.stderr)
        return [
            _returned(overrides, failures.get(run.key))
            for overrides, run in zip(job_overrides, runs, strict=True)
        ]


def _returned(overrides: Sequence[str], failure: str | None) -> JobReturn:
    from alps.runs.result import RunFailed

    if failure is None:
        return JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    error = RunFailed(failure)
    error._told = True  # pyright: ignore[reportAttributeAccessIssue]
    return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=error)
