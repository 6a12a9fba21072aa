"""A plan on the terminal: a table per stage, totals and assumptions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from alps.plan.assumptions import GIB
from alps.plan.build import STATES, Plan
from alps.plan.cost import Cost
from alps.plan.stages import PlannedRun

DASH = "—"


def print_plan(plan: Plan) -> None:
    """Prints the plan."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console = console if console.is_terminal else Console(width=120)
    for number, stage in enumerate(plan.stages, start=1):
        grid = Table(show_edge=False, pad_edge=False, title_justify="left")
        grid.title = f"stage {number} of {len(plan.stages)}{_stage_title(stage)}"
        for name in ("model", "method"):
            grid.add_column(name)
        states = [s for s in STATES if any(each.state == s for each in stage)]
        numbers = ("PFLOP", "GiB a device", "fits", "GPU hours", "GB on disk")
        for name in ("runs", *states, *numbers):
            grid.add_column(name, justify="right")
        groups = defaultdict(list)
        for each in stage:
            groups[each.run.model.name, each.run.method.name].append(each)
        for (model, method), runs in groups.items():
            grid.add_row(model, method, *_cells(runs, states, plan))
        if len(groups) > 1:
            grid.add_section()
            grid.add_row("all", "", *_cells(stage, states, plan))
        console.print(grid)
        print()
    print("\n".join(summary(plan)))


def summary(plan: Plan) -> list[str]:
    """Lines below the tables."""
    runs = plan.runs
    more = sum(not each.tables for each in runs)
    asked = ", ".join(f"{name} {count}" for name, count in plan.tables.items())
    hours = plan.assumed.hours
    disk = ", ".join(f"{name} {_gb(size)} GB" for name, size in plan.disk.items())
    lines = [
        f"distinct runs: {len(runs)}",
        f"asked for: {asked}" + (f"; task models beside them: {more}" if more else ""),
        f"{plan.assumed.gpu} hours: {hours(plan.flops(runs)):,.1f}, of which are left "
        f"{hours(plan.flops(runs, left=True)):,.1f}",
        *_vanilla(plan),
        f"disk for weights, at most: {disk}; shown is weights={plan.assumed.weights}",
        *_failures(plan),
        *_sharded(plan),
        *size_problems(plan),
        *_unknown(plan),
    ]
    return [*lines, *_assumptions(plan)]


def _cells(runs: Sequence[PlannedRun], states: Sequence[str], plan: Plan) -> list[str]:
    costs = [c for r in runs if (c := plan.costs[r.key])]
    count = Counter(each.state for each in runs)
    cells = [str(len(runs)), *(str(count[state] or DASH) for state in states)]
    if not costs:
        return [*cells, *(["?"] * 5)]
    flops = plan.flops(runs)
    largest = max(costs, key=lambda c: c.memory)
    kept = sum(_kept(c, plan.assumed.weights) for c in costs)
    fits = "yes" if all(c.fits for c in costs) else "no"
    numbers = (
        _short(flops / 1e15), f"{largest.memory / GIB:,.1f}", fits,
        _short(plan.assumed.hours(flops)), _gb(kept),
    )  # fmt: skip
    return [*cells, *numbers]


def _kept(cost: Cost, weights: str) -> int:
    return {"keep": cost.weights, "qkv": cost.qkv, "drop": 0}[weights]


def _stage_title(stage: Sequence[PlannedRun]) -> str:
    return ": task models" if stage and stage[0].stage else ""


def _vanilla(plan: Plan) -> list[str]:
    if not plan.bases:
        return []
    done = sum(each.done for each in plan.bases)
    return [
        f"evaluations of models as they are (vanilla rows): {len(plan.bases)}, of which are done "
        f"{done}",
        *(f"to evaluate them: {command}" for command in plan.evaluate_commands),
    ]


def _failures(plan: Plan) -> list[str]:
    failed = [(each.key, each.reason) for each in plan.runs if each.state == "failed"]
    failed += [(each.key, each.reason) for each in plan.bases if each.reason]
    return [f"failed: {key}: {reason}" for key, reason in failed]


def size_problems(plan: Plan) -> list[str]:
    """Methods that do not fit and the remedy, one line per model and remedy."""
    found = defaultdict(list)
    for (model, method), cost in plan.too_large().items():
        memory = cost.memory if cost.fitting else cost.one_row
        found[model, cost.fitting].append((method, memory / GIB))
    lines = []
    for (model, fitting), methods in found.items():
        need = f"{'up to ' * (len(methods) > 1)}{max(memory for _, memory in methods):,.1f} GiB"
        what = f"{model} ({', '.join(name for name, _ in methods)})"
        how = (
            f"{need}: trainer.micro_batch_size={fitting} does, and so does auto"
            if fitting
            else f"{need} for one row: a shard on each of several devices would (trainer=fsdp)"
        )
        lines.append(f"does not fit: {what} needs {how}")
    return lines


def _sharded(plan: Plan) -> list[str]:
    """Runs whose weights are sharded over several devices, one line per model."""
    found = defaultdict(list)
    for run, cost in ((each.run, plan.costs[each.key]) for each in plan.runs):
        if cost is None or cost.shards == 1:
            continue
        deviates = run.precision != run.optim.precision
        how = f", in {run.precision} instead of {run.optim.precision}" if deviates else ""
        found[run.model.name, cost.shards, how].append(run.method.name)
    return [
        f"sharded: {model} ({', '.join(dict.fromkeys(methods))}) over {shards} devices{how}"
        for (model, shards, how), methods in found.items()
    ]


def _unknown(plan: Plan) -> list[str]:
    runs = [r.run for r in plan.runs if plan.costs[r.key] is None]
    unknown = sorted({f"{run.model.name} with {run.data.name}" for run in runs})
    why = "not counted, as the model's shape or the number of rows is not known here"
    return [f"{why}: {', '.join(unknown)}"] if unknown else []


def _assumptions(plan: Plan) -> list[str]:
    assumed = plan.assumed
    lengths = []
    for name in sorted({r.run.data.name for r in plan.runs}):
        rows = assumed.lengths_of(name)
        lengths.append(f"{name} {rows.tokens:g}{'' if rows.counted else ' (a guess)'}")
    return [
        f"assumed: {assumed.device.peak:g} TFLOP/s and {assumed.device.memory:g} GiB a device, "
        f"utilisation={assumed.utilisation:g}; tokens of a row: {', '.join(lengths)}; memory is "
        "for the longest rows, without what libraries take",
        "not in it: benchmarks, scoring of heads, loading; on disk, everything but trained weights",
    ]


def _gb(size: float) -> str:
    return _short(size / 1e9)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
