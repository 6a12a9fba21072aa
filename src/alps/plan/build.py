"""The plan of some tables: runs, costs and base evaluations, as text or JSON shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from alps.plan.assumptions import Assumptions, Weights
from alps.plan.cost import Cost, CostEstimator
from alps.plan.disk import peak_disk_bytes
from alps.plan.stages import PlannedRun, group_by_stage, plan_runs
from alps.runs.completion import base_result, evaluation_folders
from alps.runs.result import RunFailed
from alps.settings.run import Run

STATES = ("done", "trained", "failed", "running", "missing")


@dataclass(frozen=True, kw_only=True)
class VanillaRows:
    """Rows of a table with untrained models.

    Attributes:
        runs: One per model and per data whose template the prompts use.
        command: Command that evaluates them.
    """

    runs: Sequence[Run]
    command: str


@dataclass(kw_only=True)
class BaseEvaluation:
    """An evaluation of an untrained model that one or several tables need.

    Attributes:
        run: A run with this model, data and benchmarks; its method does not matter.
        key: Key of model and template.
        command: Command of the evaluation.
        tables: Tables with this evaluation.
        done: Whether all benchmarks are done.
        reason: Why existing results cannot be read.
    """

    run: Run
    key: str
    command: str
    tables: list[str] = field(default_factory=list)
    done: bool = False
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "key": self.key,
            "model": self.run.model.name,
            "data": self.run.data.name,
            "benchmarks": [benchmark.name for benchmark in self.run.evals.benchmarks],
            "tables": self.tables,
            "done": self.done,
            "reason": self.reason,
            "command": self.command,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Plan of some tables.

    Attributes:
        tables: Name of a table -> number of its runs.
        stages: Runs in order, task models first.
        costs: Key -> cost, or None if unknown.
        disk: Policy -> peak bytes of weights.
        assumed: Assumptions.
        bases: Evaluations of untrained models.
    """

    tables: Mapping[str, int]
    stages: Sequence[Sequence[PlannedRun]]
    costs: Mapping[str, Cost | None]
    disk: Mapping[Weights, int]
    assumed: Assumptions
    bases: Sequence[BaseEvaluation] = ()

    @property
    def runs(self) -> list[PlannedRun]:
        """All runs, in order."""
        return [each for stage in self.stages for each in stage]

    def flops(self, runs: Iterable[PlannedRun], left: bool = False) -> float:
        """FLOPs of some runs, or only of those not yet trained."""
        open_states = ("failed", "running", "missing")
        counted = [r for r in runs if not left or r.state in open_states]
        return sum(c.flops for r in counted if (c := self.costs[r.key]))

    def too_large(self) -> dict[tuple[str, str], Cost]:
        """(model, method) -> cost of the largest run that does not fit."""
        found: dict[tuple[str, str], Cost] = {}
        for each in self.runs:
            cost, name = self.costs[each.key], (each.run.model.name, each.run.method.name)
            if cost is not None and not cost.fits:
                before = found.get(name)
                if before is None or cost.memory > before.memory:
                    found[name] = cost
        return found

    @property
    def evaluate_commands(self) -> list[str]:
        """Commands of the remaining evaluations of untrained models."""
        return list(dict.fromkeys(each.command for each in self.bases if not each.done))

    def to_json(self) -> dict[str, Any]:
        """JSON values in bytes, hours and FLOPs."""
        runs, hours = self.runs, self.assumed.hours
        named = sum(bool(each.tables) for each in runs)
        return {
            "tables": dict(self.tables),
            "distinct_runs": len(runs),
            "of_tables": named,
            "task_models_more": len(runs) - named,
            "gpu": self.assumed.gpu,
            "utilisation": self.assumed.utilisation,
            "flops": self.flops(runs),
            "gpu_hours": hours(self.flops(runs)),
            "gpu_hours_left": hours(self.flops(runs, left=True)),
            "disk_peak_bytes": dict(self.disk),
            "base_evaluations": {
                "needed": len(self.bases),
                "done": sum(each.done for each in self.bases),
                "commands": self.evaluate_commands,
                "evaluations": [each.to_json() for each in self.bases],
            },
            "stages": [
                {
                    **{state: Counter(r.state for r in stage)[state] for state in STATES},
                    "flops": self.flops(stage),
                    "gpu_hours": hours(self.flops(stage)),
                    "runs": [self._run(each) for each in stage],
                }
                for stage in self.stages
            ],
        }

    def _run(self, each: PlannedRun) -> dict[str, Any]:
        run, cost = each.run, self.costs[each.key]
        task_model = getattr(run.method, "task_model", None)
        described = {
            "key": each.key,
            "model": run.model.name,
            "data": run.data.name,
            "method": run.method.name,
            "ratio": getattr(run.method, "ratio", None),
            "scope": getattr(run.method, "scope", None),
            "task_model": task_model.name if task_model else None,
            "seed": run.seed,
            "tables": each.tables,
            "needs": each.needs,
            "state": each.state,
            "reason": each.reason,
        }
        if cost is None:
            return {**described, "cost": None}
        hours = self.assumed.hours(cost.flops)
        return {**described, "cost": {**asdict(cost), "fits": cost.fits, "gpu_hours": hours}}


def build_plan(
    tables: Mapping[str, Sequence[Run]],
    assumed: Assumptions,
    vanilla: Mapping[str, VanillaRows] | None = None,
) -> Plan:
    """The plan of some tables.

    Args:
        tables: Name of a table -> distinct runs of its grid.
        assumed: Assumptions.
        vanilla: Name of a table -> its rows with untrained models, if any.
    """
    stages = group_by_stage(plan_runs(tables).values())
    estimator = CostEstimator(assumed)
    costs = {each.key: estimator.estimate(each.run) for stage in stages for each in stage}
    return Plan(
        tables={name: len(runs) for name, runs in tables.items()},
        stages=stages,
        costs=costs,
        disk=peak_disk_bytes(stages, costs),
        assumed=assumed,
        bases=base_evaluations(vanilla or {}),
    )


def base_evaluations(vanilla: Mapping[str, VanillaRows]) -> list[BaseEvaluation]:
    """Distinct evaluations of untrained models that the tables need, and their states.

    Args:
        vanilla: Name of a table -> its rows with such models.
    """
    found: list[BaseEvaluation] = []
    for table, rows in vanilla.items():
        for run in rows.runs:
            same = (
                e
                for e in found
                if evaluation_folders(e.run, False) == evaluation_folders(run, False)
            )
            each = next(same, None)
            if each is None:
                each = BaseEvaluation(run=run, key=run.base_key, command=rows.command)
                found.append(each)
            each.tables.append(table)
    for each in found:
        each.done, each.reason = _is_done(each.run)
    return found


def _is_done(run: Run) -> tuple[bool, str | None]:
    """Whether a base model's evaluation is complete, and why its results cannot be read."""
    from alps.runs.completion import base_is_finished

    try:
        base_result(run)
    except RunFailed as error:
        return False, str(error)
    return base_is_finished(run), None
