"""A plan as one plain value: everything that is printed of it, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alps.plan.assumed import Assumed, Weights
from alps.plan.cost import Cost, Costs
from alps.plan.disk import peaks
from alps.plan.stages import Planned, in_stages, planned
from alps.settings import Run

STATES = ("done", "trained", "failed", "running", "missing")


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What `alps plan` tells.

    Attributes:
        tables: Name of each table -> number of its runs.
        stages: The runs in order, task models first.
        costs: Key -> cost, None where it is unknown.
        disk: Policy -> bytes of weights at most.
        assumed: What was taken for granted.
    """

    tables: Mapping[str, int]
    stages: Sequence[Sequence[Planned]]
    costs: Mapping[str, Cost | None]
    disk: Mapping[Weights, int]
    assumed: Assumed

    @property
    def runs(self) -> list[Planned]:
        """All trainings, in order."""
        return [each for stage in self.stages for each in stage]

    def flops(self, runs: Iterable[Planned], left: bool = False) -> float:
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

    def _run(self, each: Planned) -> dict[str, Any]:
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


def overview(tables: Mapping[str, Sequence[Run]], assumed: Assumed) -> Overview:
    """The plan of some tables.

    Args:
        tables: Name of a table -> distinct runs of its grid.
        assumed: What is taken for granted.
    """
    stages = in_stages(planned(tables).values())
    count = Costs(assumed)
    costs = {each.key: count.of(each.run) for stage in stages for each in stage}
    return Overview(
        tables={name: len(runs) for name, runs in tables.items()},
        stages=stages,
        costs=costs,
        disk=peaks(stages, costs),
        assumed=assumed,
    )
