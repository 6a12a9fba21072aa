"""What the checks share: the runs, where they train, and what was asked of this machine once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from alps.doctor.commands import within
from alps.doctor.finding import Finding
from alps.doctor.resources import Memory, main_memory
from alps.doctor.slurm_cluster import Cluster, Partition, read_cluster
from alps.doctor.torch_build import TorchBuild, probe_torch
from alps.launch.slurm.settings import Slurm
from alps.plan.assumptions import GIB, Assumptions, Device
from alps.plan.build import Plan, build_plan
from alps.plan.stages import PlannedRun
from alps.settings.interfaces import Benchmark
from alps.settings.run import Run

CPU = "laptop"
"""Name of the CPU among the devices of a plan."""

NETWORK_SECONDS = 3.0
UNTRAINED = ("failed", "running", "missing")
"""States of planned runs that have not been trained."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the runs train.

    Attributes:
        name: In words.
        memory: Memory of a device in GiB, or None if unknown.
        count: Devices of a node.
        on_gpu: Whether they are GPUs.
        of_slurm: Whether jobs of SLURM get them.
    """

    name: str
    memory: float | None
    count: int
    on_gpu: bool
    of_slurm: bool = False


@dataclass(kw_only=True)
class Context:
    """Runs, and this machine.

    Attributes:
        name: The runs in words.
        runs: Runs of the grid.
        assumed: Assumptions of `alps plan`.
        is_default: Whether the user named no runs.
        device_given: Whether the user named the device to plan for.
        slurm: Settings of the jobs if the runs go to SLURM, else None.
        findings: Findings so far.
        to_download: What the runs would download.
    """

    name: str
    runs: Sequence[Run]
    assumed: Assumptions
    is_default: bool = False
    device_given: bool = False
    slurm: Slurm | None = None
    findings: list[Finding] = field(default_factory=list)
    to_download: list[str] = field(default_factory=list)

    @cached_property
    def torch(self) -> TorchBuild:
        """The installed torch and its GPUs."""
        return probe_torch()

    @cached_property
    def cluster(self) -> Cluster:
        """SLURM of this machine."""
        return read_cluster()

    @cached_property
    def memory(self) -> Memory | None:
        """Main memory of this process."""
        return main_memory()

    @property
    def gpu_nodes(self) -> Sequence[Partition]:
        """Kinds of nodes with GPUs that jobs can get."""
        if not self.cluster.answers:
            return ()
        nodes = self.cluster.partitions
        if self.slurm is not None:
            nodes = self.cluster.nodes_of(self.slurm.partition)
        return [each for each in nodes if each.up and each.gpus]

    @cached_property
    def target(self) -> Target:
        """Where the runs train: GPUs named by the user, of SLURM or of this machine; else CPUs."""
        if self.device_given:
            a = self.assumed
            name = f"{a.node_devices} x gpu={a.gpu}, as you say"
            return Target(
                name=name, memory=a.device.memory, count=a.node_devices, on_gpu=a.gpu != CPU
            )
        on_cpu = all(run.trainer.accelerator == "cpu" for run in self.runs)
        of_jobs = not self.torch.gpus if self.slurm is None else self.slurm.asks_for_gpus
        if not on_cpu and of_jobs and self.gpu_nodes:
            return self._gpus_of_slurm()
        if self.torch.gpus and not on_cpu and self.slurm is None:
            gpus = self.torch.gpus
            name = f"{len(gpus)} x {gpus[0].name} of this machine"
            memory = min(gpu.memory for gpu in gpus) / GIB
            return Target(name=name, memory=memory, count=len(gpus), on_gpu=True)
        if self.slurm is not None and (nodes := self.cluster.nodes_of(self.slurm.partition)):
            memory = max(each.memory for each in nodes) / 1024
            name = f"CPUs of partition {nodes[0].name}"
            return Target(name=name, memory=memory, count=1, on_gpu=False)
        memory = self.memory.total / GIB if self.memory else None
        return Target(name="the CPU of this machine", memory=memory, count=1, on_gpu=False)

    def _gpus_of_slurm(self) -> Target:
        """GPUs of the nodes that have most."""
        nodes = max(self.gpu_nodes, key=lambda each: each.num_gpus)
        kind = max(nodes.gpus, key=lambda each: nodes.gpus[each])
        count = (self.slurm.gpus if self.slurm else None) or nodes.num_gpus
        return Target(
            name=f"{count} x {kind or 'GPU'} of SLURM partition {nodes.name}",
            memory=_memory_of_kind(kind, self.assumed.gpus),
            count=count,
            on_gpu=True,
            of_slurm=True,
        )

    @cached_property
    def plan(self) -> Plan:
        """What `alps plan` says of the runs on the target."""
        target, assumed = self.target, self.assumed
        if not self.device_given:
            name = "here" if target.on_gpu else CPU
            memory = target.memory or assumed.device.memory
            device = Device(memory=memory, peak=assumed.device.peak)
            gpus = {**assumed.gpus, name: device}
            assumed = replace(assumed, gpu=name, gpus=gpus, node_devices=target.count)
        return build_plan({self.name: self.runs}, assumed)

    @property
    def unfinished(self) -> list[Run]:
        """Runs and task models that still have something to do."""
        return [each.run for each in self.plan.runs if each.state != "done"]

    @property
    def untrained(self) -> list[PlannedRun]:
        """Runs and task models that still train."""
        return [each for each in self.plan.runs if each.state in UNTRAINED]

    @property
    def benchmarks(self) -> list[tuple[Run, Benchmark]]:
        """Benchmarks of the grid's unfinished runs, each once, with a run that has it."""
        keys = {run.key for run in self.unfinished}
        runs = [run for run in self.runs if run.key in keys]
        found: dict[Any, tuple[Run, Benchmark]] = {}
        for run in runs:
            for benchmark in run.evals.benchmarks:
                found.setdefault((benchmark.name, run.evals.data_dir), (run, benchmark))
        return list(found.values())

    @cached_property
    def hub_problem(self) -> str | None:
        """Why the hub cannot be used from here, or None."""
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            return "HF_HUB_OFFLINE is set"
        try:
            within(NETWORK_SECONDS + 2, lambda: head(constants.ENDPOINT, NETWORK_SECONDS))
        except Exception as error:  # of names, certificates, proxies, connections
            reason = getattr(error, "reason", None) or error
            said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            return f"{constants.ENDPOINT} cannot be reached: {said}"
        return None


def _memory_of_kind(kind: str, devices: Mapping[str, Device]) -> float | None:
    """GiB of a GPU by its type in SLURM: as the type says, else the least of that name; or None."""
    if found := re.search(r"(\d+)gb", kind.lower()):
        return float(found[1])
    words = re.split(r"[^a-z0-9]", kind.lower())
    known = [device.memory for name, device in devices.items() if name.split("_")[0] in words]
    return min(known, default=None)


def head(address: str, seconds: float) -> None:
    """Returns if a server answers, with whatever status but a proxy's.

    Raises:
        OSError: If none does.
    """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(address, method="HEAD"), timeout=seconds).close()
    except HTTPError as error:
        if error.code in (407, 502, 503, 504):
            raise
