"""The SLURM cluster of this machine, as `sinfo`, `scontrol` and `sacctmgr` describe it."""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alps.doctor.commands import CommandFailed, output_of
from alps.launch.slurm.cluster import COMMANDS as JOB_COMMANDS
from alps.launch.slurm.settings import minutes

COMMANDS = (*JOB_COMMANDS, "sinfo")
SINFO = ("sinfo", "--noheader", "--exact", "--format=%P|%a|%l|%D|%c|%m|%G")


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition, or its nodes of one kind.

    Attributes:
        name: Its name.
        default: Whether jobs go there that name none.
        up: Whether it takes jobs and starts them.
        limit: Time limit in minutes, or None.
        nodes: Number of nodes.
        cpus: CPUs of a node.
        memory: Memory of a node in MiB.
        gpus: Type -> number in a node; the type is empty where the cluster names none.
    """

    name: str
    default: bool
    up: bool
    limit: int | None
    nodes: int
    cpus: int
    memory: int
    gpus: Mapping[str, int]

    @property
    def num_gpus(self) -> int:
        """GPUs of a node."""
        return sum(self.gpus.values())


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster, or why there is none.

    Attributes:
        absent: Commands of SLURM that are not installed.
        problem: Why the controller does not answer, or None.
        partitions: The partitions, those of several kinds of nodes several times.
        config: The controller's configuration.
        max_submit: Jobs that this user may have in the queue at once, or None if unknown.
    """

    absent: Sequence[str] = ()
    problem: str | None = None
    partitions: Sequence[Partition] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    max_submit: int | None = None

    @property
    def answers(self) -> bool:
        """Whether jobs can be submitted here."""
        return not self.absent and self.problem is None

    def nodes_of(self, name: str | None) -> list[Partition]:
        """Kinds of nodes of a partition; of the default one without a name."""
        return [p for p in self.partitions if (p.default if name is None else p.name == name)]


def read_cluster() -> Cluster:
    """Asks the controller; each question has a limit of ten seconds."""
    absent = [name for name in COMMANDS if shutil.which(name) is None]
    if absent:
        return Cluster(absent=absent)
    try:
        partitions = parse_partitions(output_of(SINFO))
        config = parse_config(output_of(["scontrol", "show", "config"]))
    except CommandFailed as error:
        return Cluster(problem=str(error))
    return Cluster(partitions=partitions, config=config, max_submit=_max_submit())


def parse_partitions(text: str) -> list[Partition]:
    """Partitions from the output of `SINFO`."""
    found = []
    for entry in text.splitlines():
        parts = [part.strip() for part in entry.split("|")]
        if len(parts) != 7:
            continue
        name, available, limit, nodes, cpus, memory, gres = parts
        found.append(
            Partition(
                name=name.rstrip("*"),
                default=name.endswith("*"),
                up=available == "up",
                limit=_limit(limit),
                nodes=_leading_number(nodes),
                cpus=_leading_number(cpus),
                memory=_leading_number(memory),
                gpus=parse_gpus(gres),
            )
        )
    return found


def parse_gpus(gres: str) -> dict[str, int]:
    """GPUs of a node by type, from `gpu:a100:4(S:0-1),mps:400`."""
    gpus: dict[str, int] = {}
    for resource in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *rest = resource.split(":")
        if name != "gpu":
            continue
        number = rest.pop() if rest and rest[-1].isdecimal() else "1"
        kind = ":".join(rest)
        gpus[kind] = gpus.get(kind, 0) + int(number)
    return gpus


def parse_config(text: str) -> dict[str, str]:
    """Settings from the output of `scontrol show config`."""
    pairs = re.findall(r"^(\w+)\s*= (.*?)\s*$", text, re.M)
    return dict(pairs)


def _max_submit() -> int | None:
    """The smallest `MaxSubmitJobs` of this user; None without accounting or limit."""
    command = [
        "sacctmgr",
        "--noheader",
        "--parsable2",
        "show",
        "assoc",
        f"user={getpass.getuser()}",
    ]
    try:
        text = output_of([*command, "format=MaxSubmitJobs"])
    except CommandFailed:
        return None
    return min((int(word) for word in text.split() if word.isdecimal()), default=None)


def _limit(text: str) -> int | None:
    try:
        return minutes(text)
    except ValueError:  # infinite, n/a
        return None


def _leading_number(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0
