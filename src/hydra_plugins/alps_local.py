"""`hydra/launcher=local`, the default: the runs of a sweep on this machine's devices.

Hydra looks for launchers in this namespace only. It imports this file whenever it starts, so
everything else is imported where it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Runs the points of a sweep at once, each on a device of its own, or one after the other."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keeps what Hydra's own launcher needs."""
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs every point: in this process if only one runs at a time."""
        from alps.config.build import build
        from alps.config.hydra_internals import BasicLauncher
        from alps.config.job_returns import job_returns
        from alps.config.run_plan import current_plan
        from alps.launch.devices import num_parallel
        from alps.launch.queue import pending_entries, run_queue

        loader, plan = self.context.config_loader, current_plan()
        points = [loader.load_sweep_config(self.config, list(o)) for o in job_overrides]
        runs = [build(point) for point in points]
        parallel = min((num_parallel(run.trainer) for run in runs), default=1)
        if parallel == 1 or len(entries := pending_entries(runs)) <= 1:
            basic = BasicLauncher()
            basic.setup(
                hydra_context=self.context, task_function=self.task_function, config=self.config
            )
            return basic.launch(job_overrides, initial_job_idx)
        if not plan.complete:
            plan.add(runs, self.config.weights)
        plan.started = True

        def on_run_ended() -> None:
            if plan.complete:
                plan.free_disk()

        failures = run_queue(entries, parallel, on_run_ended, plan.fail_fast)
        return job_returns(job_overrides, runs, failures)
