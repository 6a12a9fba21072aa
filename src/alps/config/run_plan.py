"""The runs that one `alps train` command does, shared by Hydra's callback, launcher and task.

Hydra creates callbacks and launchers itself and passes them nothing, so the plan of the running
command is found through a context variable.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path

from alps.launch.nodes import FirstNode
from alps.settings.run import Run, Weights

log = logging.getLogger(__name__)

_current: ContextVar[RunPlan] = ContextVar("run plan of the running command")


class RunPlan:
    """Runs of a command, and the retention policy for their weights.

    Attributes:
        runs: Runs planned so far.
        complete: Whether `runs` is final; some sweepers draw points as they go.
        sweep_dir: Folder of a sweep's table, or None for a single run.
        weights: Retention policy.
        protected: Keys of task models that existed before, whose weights stay.
        fail_fast: Whether the first failure ends a sweep.
        failed: Key of the run that failed first, or None.
        started: Whether a run has begun; errors before that are the settings'.
        nodes: Connections to the other nodes, if there are several.
    """

    def __init__(self) -> None:
        """An empty plan."""
        self.runs: list[Run] = []
        self.complete = False
        self.sweep_dir: Path | None = None
        self.weights: Weights = "keep"
        self.protected: set[str] = set()
        self.fail_fast = False
        self.failed: str | None = None
        self.started = False
        self.nodes: FirstNode | None = None
        self.exit = ExitStack()

    def add(self, runs: Sequence[Run], weights: Weights) -> None:
        """Adds runs under a retention policy."""
        from alps.pipeline.retention import already_trained_task_models

        self.runs += runs
        self.weights = weights
        self.protected |= already_trained_task_models(runs)

    def meet_nodes(self) -> None:
        """Waits for the other nodes of these runs; on another than the first, works and exits.

        Raises:
            ValueError: If they do not meet; one sentence.
            SystemExit: On another node, when the first one's command has ended.
        """
        from alps.launch.address import find_address
        from alps.launch.nodes import first_node
        from alps.launch.ranks import follow_first_node

        trainer = self.runs[0].trainer
        if len({run.trainer.num_nodes for run in self.runs}) > 1:
            raise ValueError("trainer.num_nodes is one number for all runs of a command")
        if trainer.num_nodes == 1:
            return
        address = find_address(trainer)
        if address.node_rank:
            raise SystemExit(follow_first_node(self.runs[0], address))
        self.nodes = self.exit.enter_context(first_node(trainer, address))

    def free_disk(self) -> None:
        """Applies the retention policy to finished runs that no planned run needs."""
        from alps.launch.slurm.submission import needed_by_jobs
        from alps.pipeline.retention import reduce_unneeded

        if self.weights == "keep" or not self.runs:
            return
        try:
            queued = needed_by_jobs(self.runs[0].output_dir)
        except ValueError as error:
            log.warning("the weights of finished runs stay as they are: %s", error)
            return
        reduce_unneeded(self.runs, self.weights, self.protected | queued)


@contextmanager
def new_plan() -> Iterator[RunPlan]:
    """An empty plan, current inside the block."""
    plan = RunPlan()
    token = _current.set(plan)
    try:
        with plan.exit:
            yield plan
    finally:
        _current.reset(token)


def current_plan() -> RunPlan:
    """The plan of the running command; an empty one in a process that a launcher started."""
    return _current.get(None) or RunPlan()
