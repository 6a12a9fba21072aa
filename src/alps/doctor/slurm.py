"""SLURM: its commands, its controller, and whether its partitions take the jobs of the runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from alps.doctor.context import Context
from alps.doctor.finding import Finding, State, check
from alps.doctor.slurm_cluster import COMMANDS, Partition
from alps.launch.slurm.settings import minutes

MIB = {"K": 1 / 1024, "M": 1, "": 1, "G": 1024, "T": 1024**2}
"""MiB of sbatch's units of memory."""


@check
def controller(context: Context) -> Iterator[Finding]:
    """Commands and controller of SLURM; a machine without them is no error."""
    cluster, asked = context.cluster, context.slurm is not None
    failed: State = "missing" if asked else "warning"
    if list(cluster.absent) == list(COMMANDS):
        state: State = "missing" if asked else "info"
        text = "not on this machine: runs go to this machine"
        if asked:
            text = "not on this machine, but hydra/launcher=slurm submits jobs"
        remedy = "run it where jobs are submitted" if asked else ""
        yield Finding(name="SLURM", state=state, text=text, remedy=remedy)
    elif cluster.absent:
        text = f"{', '.join(cluster.absent)} not found: hydra/launcher=slurm is refused"
        yield Finding(name="SLURM", state=failed, text=text, remedy="install slurm-client")
    elif cluster.problem:
        text = f"{cluster.problem}: no job can be submitted"
        yield Finding(
            name="SLURM", state=failed, text=text, remedy="scontrol ping; try again later"
        )
    else:
        config = cluster.config
        name = config.get("ClusterName", "the cluster")
        text = f"{name} answers, version {config.get('SLURM_VERSION', 'unknown')}"
        if not asked:
            text += "; runs go there with -m hydra/launcher=slurm"
        yield Finding(name="SLURM", state="ok", text=text)


@check
def partitions(context: Context) -> Iterator[Finding]:
    """Partitions with limits, GPUs and memory of a node."""
    for each in context.cluster.partitions:
        gpus = ", ".join(f"{count} x {kind or 'GPU'}" for kind, count in each.gpus.items())
        limit = "no time limit" if each.limit is None else f"at most {_hours(each.limit)}"
        text = (
            f"{limit}, nodes of {each.cpus} CPUs, {each.memory / 1024:.0f} GiB, {gpus or 'no GPU'}"
            f" ({each.nodes})"
        )
        name = f"partition {each.name}{' (default)' * each.default}"
        if not each.up:
            yield Finding(name=name, state="warning", text=f"{text}: it is down, jobs wait")
        elif not each.nodes:
            yield Finding(name=name, state="warning", text=f"{text}: it has no nodes")
        else:
            yield Finding(name=name, state="ok", text=text)


@check
def jobs(context: Context) -> Iterator[Finding]:
    """Whether a partition has what `hydra.launcher` asks for."""
    slurm, cluster = context.slurm, context.cluster
    if slurm is None or not cluster.answers:
        return
    from alps.launch.slurm.submit import too_few_gpus

    nodes = cluster.nodes_of(slurm.partition)
    if not nodes:
        names = ", ".join(sorted({p.name for p in cluster.partitions})) or "none"
        text = (
            f"there is no partition {slurm.partition}"
            if slurm.partition
            else "no default partition"
        )
        remedy = f"hydra.launcher.partition= one of {names}"
        yield Finding(name="jobs", state="missing", text=text, remedy=remedy)
        return
    problems = list(_beyond(context, nodes))
    if problem := too_few_gpus([each.run for each in context.untrained], slurm):
        problems.append(problem)
    for problem in problems:
        yield Finding(name="jobs", state="missing", text=problem)
    if not problems:
        asked = f"{slurm.gpus or 0} GPUs, {slurm.cpus} CPUs, {slurm.mem or 'default memory'}"
        text = f"partition {nodes[0].name} has {asked} for {slurm.time}"
        yield Finding(name="jobs", state="ok", text=text)
        if not slurm.asks_for_gpus and any(n.gpus for n in nodes):
            text = "they ask for no GPU, though the partition has some: they train on CPUs"
            remedy = "hydra.launcher.gpus=1"
            yield Finding(name="jobs", state="warning", text=text, remedy=remedy)


def _beyond(context: Context, nodes: Sequence[Partition]) -> Iterator[str]:
    """Sentences about settings that no node of the partition can meet."""
    slurm, name = context.slurm, nodes[0].name
    assert slurm is not None
    limits = [each.limit for each in nodes if each.limit is not None]
    if limits and minutes(slurm.time) > max(limits):
        longest = _hours(max(limits))
        yield (
            f"hydra.launcher.time={slurm.time} is longer than partition {name} allows, {longest}: "
            "such jobs are refused or wait for ever; a shorter one is enough, as runs resume"
        )
    have = {
        "gpus": max(each.num_gpus for each in nodes),
        "cpus": max(each.cpus for each in nodes),
    }
    for setting, most in have.items():
        asked = getattr(slurm, setting)
        if asked and asked > most:
            yield f"hydra.launcher.{setting}={asked}, but nodes of partition {name} have {most}"
    if found := re.fullmatch(r"(\d+)([KMGT]?)", slurm.mem or ""):
        memory = max(each.memory for each in nodes)
        if int(found[1]) * MIB[found[2]] > memory:
            yield f"hydra.launcher.mem={slurm.mem}, but nodes of partition {name} have {memory}M"


@check
def limits(context: Context) -> Iterator[Finding]:
    """Limits of the controller on arrays and on jobs of a user."""
    cluster, asked = context.cluster, context.slurm is not None
    if not cluster.answers:
        return
    count, array = len(context.untrained), cluster.config.get("MaxArraySize", "unknown")
    if cluster.max_submit is not None and count > cluster.max_submit:
        bad: State = "missing" if asked else "warning"
        text = f"{count} runs are more than the {cluster.max_submit} jobs that you may submit"
        remedy = "submit the grid in parts"
        yield Finding(name="job limits", state=bad, text=text, remedy=remedy)
        return
    most = "unknown" if cluster.max_submit is None else cluster.max_submit
    text = f"{count} runs, in arrays of at most {array} (MaxArraySize); MaxSubmitJobs={most}"
    yield Finding(name="job limits", state="ok", text=text)


def _hours(limit: int) -> str:
    days, rest = divmod(limit, 24 * 60)
    return (
        f"{days}-{rest // 60:02}:{rest % 60:02}:00" if days else f"{rest // 60}:{rest % 60:02}:00"
    )
