"""The distinct runs of several tables, task models first, and their current states."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.run import Run

State = Literal["done", "trained", "failed", "running", "missing"]


@dataclass(kw_only=True)
class PlannedRun:
    """A run that one or several tables need.

    Attributes:
        run: The run.
        key: Its key, stored because it is slow to compute.
        variants: The same run with the benchmarks of each table.
        tables: Tables with this run; empty for a task model that is no row of a table.
        needs: Key of its task model's run, or None.
        stage: 0 for runs that no other run needs, 1 for their task models, and so on.
        state: `done`; `trained`, with benchmarks missing; `failed`; `running`; `missing`.
        reason: Reason of a failure.
    """

    run: Run
    key: str
    variants: list[Run] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    needs: str | None = None
    stage: int = 0
    state: State = "missing"
    reason: str | None = None


def plan_runs(tables: Mapping[str, Iterable[Run]]) -> dict[str, PlannedRun]:
    """Key -> run that the tables need, including task models.

    Args:
        tables: Name of a table -> runs of its grid.
    """
    found: dict[str, PlannedRun] = {}
    for table, runs in tables.items():
        for run in runs:
            _add(found, run, 0, table)
    for each in found.values():
        each.state, each.reason = run_state(each.variants)
    for each in sorted(found.values(), key=lambda each: each.stage):  # before their task models
        chosen = RunFolder(each.run.folder).training_path.exists()  # its heads are selected
        if each.needs and each.state in ("failed", "running", "missing") and not chosen:
            task = found[each.needs]
            if task.state in ("done", "trained") and RunFolder(
                task.run.folder
            ).missing_weights_reason("qkv"):
                task.state, task.reason = "missing", None
    return found


def group_by_stage(runs: Iterable[PlannedRun]) -> list[list[PlannedRun]]:
    """The runs by stage, task models first."""
    stages = defaultdict(list)
    for each in runs:
        stages[each.stage].append(each)
    return [stages[number] for number in sorted(stages, reverse=True)]


def run_state(variants: Sequence[Run]) -> tuple[State, str | None]:
    """State of a run by its files, and the reason of a failure."""
    folder = RunFolder(variants[0].folder)
    if not folder.path.is_dir():
        return "missing", None
    from alps.runs.completion import is_finished

    status = folder.status()
    try:
        if all(is_finished(run, folder) for run in variants):
            return "done", None
    except RunFailed as error:
        return "failed", str(error)
    if status["state"] == "failed":
        return "failed", status["reason"]
    if status["state"] == "running":
        return "running", None
    return ("trained" if folder.has_weights() else "missing"), None


def _add(found: dict[str, PlannedRun], run: Run, stage: int, table: str | None) -> str:
    key = run.key
    each = found.setdefault(key, PlannedRun(run=run, key=key))
    each.variants.append(run)
    each.stage = max(each.stage, stage)
    if table is not None:
        each.tables.append(table)
    task_run = run.task_run()
    if task_run is not None:
        each.needs = _add(found, task_run, each.stage + 1, None)
    return key
