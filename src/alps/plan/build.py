"""A plan as one plain value: everything that is printed of it, for people and for programs."""

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
    """The rows of a table whose models are evaluated as they are.

    Attributes:
        runs: One for each model and data whose template it is asked in.
        command: What evaluates them.
    """

    runs: Sequence[Run]
    command: str


@dataclass(kw_only=True)
class BaseEvaluation:
    """An evaluation of a model as it is that is needed once, whoever asks for it.

    Attributes:
        run: Of this model, data and benchmarks; what it trains does not matter.
        key: Of the model and the template.
        command: What does it.
        tables: Tables that ask for it.
        done: Whether all benchmarks are there.
        reason: Why what is there cannot be read.
    """

    run: Run
    key: str
    command: str
    tables: list[str] = field(default_factory=list)
    done: bool = False
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
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
    """What `alps plan` tells.

    Attributes:
        tables: Name of each table -> number of its runs.
        stages: The runs in order, task models first.
        costs: Key -> cost, None where it is unknown.
        disk: Policy -> bytes of weights at most.
        assumed: What was taken for granted.
        bases: Evaluations of models as they are.
    """

    tables: Mapping[str, int]
    stages: Sequence[Sequence[PlannedRun]]
    costs: Mapping[str, Cost | None]
    disk: Mapping[Weights, int]
    assumed: Assumptions
    bases: Sequence[BaseEvaluation] = ()

    @property
    def runs(self) -> list[PlannedRun]:
        """All trainings, in order."""
        return [each for stage in self.stages for each in stage]

    def flops(self, runs: Iterable[PlannedRun], left: bool = False) -> float:
        """Operations of some runs together, or of those that are still to be trained."""
        open_states = ("failed", "running", "missing")
        counted = [r for r in runs if not left or r.state in open_states]
        return sum(c.flops for r in counted if (c := self.costs[r.key]))

    def too_large(self) -> dict[tuple[str, str], Cost]:
        """(model, method) -> cost of the largest run that does not fit as it is set."""
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
        """What does the evaluations of models as they are that are left."""
        return list(dict.fromkeys(each.command for each in self.bases if not each.done))

    def to_json(self) -> dict[str, Any]:
        """Plain values with all numbers in full: bytes, hours, operations."""
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
        told = {
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
            return {**told, "cost": None}
        hours = self.assumed.hours(cost.flops)
        return {**told, "cost": {**asdict(cost), "fits": cost.fits, "gpu_hours": hours}}


def build_plan(
    tables: Mapping[str, Sequence[Run]],
    assumed: Assumptions,
    vanilla: Mapping[str, VanillaRows] | None = None,
) -> Plan:
    """The plan of some tables.

    Args:
        tables: Name of a table -> distinct runs of its grid.
        assumed: What is taken for granted.
        vanilla: Name of a table -> its rows of models as they are, where it has some.
    """
    stages = group_by_stage(plan_runs(tables).values())
    count = CostEstimator(assumed)
    costs = {each.key: count.estimate(each.run) for stage in stages for each in stage}
    return Plan(
        tables={name: len(runs) for name, runs in tables.items()},
        stages=stages,
        costs=costs,
        disk=peak_disk_bytes(stages, costs),
        assumed=assumed,
        bases=base_evaluations(vanilla or {}),
    )


def base_evaluations(vanilla: Mapping[str, VanillaRows]) -> list[BaseEvaluation]:
    """The evaluations of models as they are that tables need together, and what is there of them.

    Args:
        vanilla: Name of a table -> its rows of such models.
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
    """Whether nothing of a base model's evaluation is missing, and why it cannot be read."""
    from alps.runs.completion import base_is_finished

    try:
        base_result(run)
    except RunFailed as error:
        return False, str(error)
    return base_is_finished(run), None
