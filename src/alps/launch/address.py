"""Where the nodes of a training meet, from settings, the environment or SLURM."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alps.settings.infrastructure import Trainer

SLURM_PORT = 15000
"""Port of a job's rendezvous, plus the last four digits of its number."""


@dataclass(frozen=True)
class Address:
    """Where nodes meet, and which of them this is."""

    host: str
    port: int
    node_rank: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def find_address(trainer: Trainer, environment: Mapping[str, str] = os.environ) -> Address:
    """Address and node rank, from settings, else the environment, else SLURM.

    Raises:
        ValueError: If something is missing; one sentence.
    """
    rank: Any = trainer.node_rank
    for name in ("NODE_RANK", "SLURM_NODEID"):
        rank = environment.get(name) if rank is None else rank
    if rank is None:
        raise ValueError(
            f"trainer.num_nodes={trainer.num_nodes}, but this node has no number: set NODE_RANK "
            "(0 on the first) or trainer.node_rank, or start it with srun, one task per node"
        )
    if not str(rank).isdecimal() or int(rank) >= trainer.num_nodes:
        raise ValueError(f"node rank {rank} is no number of {trainer.num_nodes} nodes from 0")
    if int(environment.get("SLURM_NTASKS_PER_NODE") or 1) > 1 and trainer.node_rank is None:
        raise ValueError("trainer.num_nodes needs one task per node: srun --ntasks-per-node=1")
    if trainer.rendezvous:
        host, _, port = trainer.rendezvous.rpartition(":")
    elif "MASTER_ADDR" in environment and "MASTER_PORT" in environment:
        host, port = environment["MASTER_ADDR"], environment["MASTER_PORT"]
    elif "SLURM_JOB_NODELIST" in environment:
        host = first_host(environment["SLURM_JOB_NODELIST"])
        port = str(SLURM_PORT + int(environment.get("SLURM_JOB_ID", "0")[-4:]))
    else:
        raise ValueError(
            f"trainer.num_nodes={trainer.num_nodes}, but no address of the first node: set "
            "trainer.rendezvous=host:port, the same on all nodes"
        )
    return Address(host.strip("[]"), int(port), int(rank))


def first_host(nodelist: str) -> str:
    """First host of a SLURM node list, as `n[1-4,7]`."""
    if shutil.which("scontrol"):
        command = ["scontrol", "show", "hostnames", nodelist]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0 and done.stdout.split():
            return done.stdout.split()[0]
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", re.split(r",(?![^\[]*\])", nodelist)[0])
