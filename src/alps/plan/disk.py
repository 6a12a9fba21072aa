"""Peak disk usage of the weights of a plan, by policy for weights no longer needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from alps.plan.cost import Cost
from alps.plan.stages import PlannedRun
from alps.settings.run import Weights


def peak_disk_bytes(
    stages: Sequence[Sequence[PlannedRun]], costs: Mapping[str, Cost | None]
) -> dict[Weights, int]:
    """Policy -> peak bytes, for sequential runs that are evaluated right after training."""
    return {policy: _peak(stages, costs, policy) for policy in get_args(Weights)}


def _peak(
    stages: Sequence[Sequence[PlannedRun]], costs: Mapping[str, Cost | None], policy: Weights
) -> int:
    runs = [each for stage in stages for each in stage]
    waiting = Counter(each.needs for each in runs if each.needs)
    held = most = 0
    for each in runs:
        cost = costs[each.key]
        if cost is None:
            continue
        most = max(most, held + cost.resume + cost.weights)
        held += cost.weights
        if each.needs:
            waiting[each.needs] -= 1
        for key in filter(None, (each.key, each.needs)):
            done = costs.get(key) if not waiting[key] else None
            if done is not None:
                held -= {"keep": 0, "qkv": done.weights - done.qkv, "drop": done.weights}[policy]
                waiting[key] = -1  # once
    return most
