"""`hydra/launcher=slurm`: Hydra looks for launchers in this namespace only.

Hydra imports this file whenever it starts, so everything else is imported where it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SlurmLauncher(Launcher):
    """Submits the points of a sweep as `alps submit` does, waits, and reports failures."""

    def __init__(self, **settings: Any) -> None:
        """Keeps the settings of `conf/hydra/launcher/slurm.yaml`."""
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Checks settings and machine before any folder is made."""
        from omegaconf import OmegaConf

        from alps.base.serialization import SettingsError, from_dict
        from alps.config.errors import exit_with_errors
        from alps.launch.slurm.cluster import missing_requirement
        from alps.launch.slurm.settings import Slurm

        self.config, self.loader = config, hydra_context.config_loader
        settings = OmegaConf.to_container(OmegaConf.create(self.settings), resolve=True)
        assert isinstance(settings, dict)
        try:
            self.slurm = from_dict(
                {str(k): v for k, v in settings.items()}, Slurm, "hydra.launcher"
            )
        except SettingsError as error:
            exit_with_errors(error.problems)
        if problem := missing_requirement():
            exit_with_errors([problem])

    def problems(self, runs: Sequence[Any]) -> Iterator[str]:
        """Sentences about runs that these settings cannot hold."""
        from alps.launch.slurm.submit import too_few_gpus

        if problem := too_few_gpus(runs, self.slurm):
            yield problem

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs every point as a job and waits for all of them."""
        from alps.config.build import build
        from alps.config.errors import exit_with_errors
        from alps.config.job_returns import job_returns
        from alps.config.run_plan import current_plan
        from alps.launch.slurm.wait import run_jobs

        points = [self.loader.load_sweep_config(self.config, list(o)) for o in job_overrides]
        runs, plan = [build(point) for point in points], current_plan()
        if not plan.complete:
            plan.add(runs, self.config.weights)
        plan.started = True

        def on_jobs_ended() -> None:
            if plan.complete:
                plan.free_disk()

        try:
            failures = run_jobs(
                runs, self.slurm, on_jobs_ended, self.config.weights, plan.fail_fast
            )
        except ValueError as error:
            exit_with_errors([str(error)])
        for key, reason in failures.items():
            print(f"error: {key}: {reason}", file=sys.stderr)
        return job_returns(job_overrides, runs, failures)
