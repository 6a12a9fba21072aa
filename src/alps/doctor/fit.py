"""Whether the runs fit their devices, and whether `alps train` would start them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from alps.doctor.context import Context
from alps.doctor.finding import Finding, check
from alps.plan.view import size_problems


@check
def memory_of_runs(context: Context) -> Iterator[Finding]:
    """Predicted peak memory of each run against that of its device."""
    target, plan = context.target, context.plan
    trained = {each.key for each in context.untrained}
    costs = [cost for each in context.untrained if (cost := plan.costs[each.key])]
    unknown = sorted({e.run.model.name for e in context.untrained if plan.costs[e.key] is None})
    if not trained:
        yield Finding(name="memory of runs", state="ok", text="all runs are trained")
        return
    if target.memory is None:
        text = f"the memory of {target.name} is unknown, so what fits cannot be predicted"
        remedy = f"gpu= one of {', '.join(context.assumed.gpus)}"
        yield Finding(name="memory of runs", state="warning", text=text, remedy=remedy)
        return
    has = f"{target.name} ({target.memory:,.1f} GiB)"
    problems = size_problems(plan)
    for text in problems:
        remedy = "a machine with GPUs, or scale=mini"
        if target.on_gpu:
            remedy = "larger GPUs, preset=gpu24, scope=heads_only or scale=mini"
        text = f"{has}: {text}"
        yield Finding(name="memory of runs", state="missing", text=text, remedy=remedy)
    if unknown:
        text = f"of {', '.join(unknown)} unknown, as the shape or the number of rows is not here"
        yield Finding(name="memory of runs", state="warning", text=text)
    if costs and not problems:
        largest = max(cost.memory for cost in costs) / 2**30
        text = f"at most {largest:,.1f} GiB a device, on {has}"
        yield Finding(name="memory of runs", state="ok", text=text)


@check
def devices(context: Context) -> Iterator[Finding]:
    """Whether there are as many devices as the runs ask for, and sharding allows their settings."""
    target, found = context.target, dict[str, int]()
    for each in context.untrained:
        trainer, cost = each.run.trainer, context.plan.costs[each.key]
        if target.on_gpu and trainer.accelerator != "cpu" and trainer.num_devices > target.count:
            text = f"trainer.devices={trainer.num_devices}, but there are {target.name}"
            found[text] = found.get(text, 0) + 1
        if cost is not None and cost.shards > 1 and trainer.devices == "auto":
            sharded = replace(trainer, devices=cost.devices, strategy="fsdp")
            for problem in replace(each.run, trainer=sharded).problems():
                text = f"{each.run.model.name} is sharded over {cost.shards} devices: {problem}"
                found[text] = found.get(text, 0) + 1
    for text, count in found.items():
        yield Finding(name="devices", state="missing", text=f"{text} ({_runs(count)})")
    if not found and context.untrained:
        yield Finding(name="devices", state="ok", text=f"runs train on {target.name}")


@check
def start(context: Context) -> Iterator[Finding]:
    """What `alps train` checks before it starts, without the models; last, as it takes seconds."""
    if any(finding.state == "missing" for finding in context.findings):
        text = "the checks of alps train are not made, as something is missing already"
        yield Finding(name="start", state="info", text=text)
        return
    keys = {run.key for run in context.unfinished}
    runs = [run for run in context.runs if run.key in keys]
    if context.to_download:
        text = f"the checks of alps train need {', '.join(context.to_download)} here"
        yield Finding(name="start", state="info", text=text, remedy="alps prefetch")
        return
    from alps.config.errors import error_messages
    from alps.pipeline.preflight import RunCheck

    problems, done = defaultdict[str, int](int), dict[str, Any]()
    with _offline():
        for run in runs:
            try:
                RunCheck(run, done=done).check_files()
            except (ValueError, OSError) as error:
                for problem in error_messages(error):
                    problems[problem] += 1
    for problem, count in problems.items():
        yield Finding(name="start", state="missing", text=f"{problem} ({_runs(count)})")
    if not problems:
        text = f"outputs, data and benchmarks of {_runs(len(runs))} pass the checks of alps train"
        yield Finding(name="start", state="ok", text=text)


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


@contextmanager
def _offline() -> Iterator[None]:
    """Has the hub's client use its cache only: what is there need not be looked up again."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
