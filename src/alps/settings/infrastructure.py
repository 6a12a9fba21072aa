"""Infrastructure settings: devices, loggers and evaluation; never part of a key.

Nothing here imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alps.base.serialization import did_you_mean, name_problems
from alps.settings.interfaces import Benchmark

EvaluationPrecision = Literal["32", "tf32", "bf16"]
"""Precision in which a model was evaluated."""

POSITIVE = (
    "devices",
    "num_nodes",
    "parallel",
    "rendezvous_seconds",
    "micro_batch_size",
    "loss_chunk",
    "checkpoint_every_n_steps",
)
"""Settings of `Trainer` that are at least 1."""


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Infrastructure of a training.

    Attributes:
        name: Name of the choice.
        accelerator: `auto`, `cpu` or `gpu`.
        devices: Devices of a node (ranks). `auto` is one device for a training that fits into its
            memory as predicted, else all visible GPUs; on a CPU, one.
        num_nodes: Machines that share each training; the same command runs on all of them.
        parallel: Runs of a sweep that run at once on this machine, each on a device of its own;
            `auto` is the number of visible GPUs, without GPU one.
        node_rank: Number of this machine, from 0; without it `NODE_RANK`, or SLURM's.
        rendezvous: `host:port` of the first node; without it `MASTER_ADDR` and `MASTER_PORT`, or
            the first node of the SLURM job.
        rendezvous_seconds: Longest wait of nodes for each other at the start.
        strategy: `ddp` replicates the model on each device, `fsdp` shards it; `auto` shards models
            marked `sharded` if more than heads or adapters train, and what fits no single device.
        micro_batch_size: Examples per forward pass and device; the effective batch size is
            `optim.batch_size`. `auto` begins with the most that fit into memory as predicted, and
            halves it when a step runs out of memory. None is `auto` on GPUs and 8 on CPUs.
        activation_checkpointing: Recompute the activations of each layer in the backward pass: less
            memory, about a third more time.
        loss_chunk: Answer tokens whose logits are in memory at once (computed again in the backward
            pass), or None for all: what large vocabularies need on small devices.
        checkpoint_every_n_steps: Optimizer steps between checkpoints.
        progress: `auto` (a bar on a terminal, lines elsewhere), `lines` or `off`.
    """

    name: str = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = "auto"
    num_nodes: int = 1
    parallel: int | Literal["auto"] = "auto"
    node_rank: int | None = None
    rendezvous: str | None = None
    rendezvous_seconds: int = 600
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    micro_batch_size: int | Literal["auto"] | None = None
    activation_checkpointing: bool = False
    loss_chunk: int | None = None
    checkpoint_every_n_steps: int = 25
    progress: Literal["auto", "lines", "off"] = "auto"

    def requested_micro_batch(self, on_gpu: bool) -> int | Literal["auto"]:
        """`micro_batch_size` on GPUs or on CPUs."""
        return self.micro_batch_size or ("auto" if on_gpu else 8)

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        for name in POSITIVE:
            value = getattr(self, name)
            if value not in (None, "auto") and value < 1:
                yield f"trainer.{name} must be at least 1, got {value}"
        if self.node_rank is not None and not 0 <= self.node_rank < self.num_nodes:
            yield (
                f"trainer.node_rank={self.node_rank} is no number of {self.num_nodes} nodes: they "
                "count from 0"
            )
        host, _, port = (self.rendezvous or "host:1").rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            yield f"trainer.rendezvous={self.rendezvous} is no address: write host:port"

    @property
    def num_devices(self) -> int:
        """Devices of a node; `auto` is one until `alps.launch.devices` resolves it."""
        return 1 if self.devices == "auto" else self.devices

    @property
    def world_size(self) -> int:
        """Ranks on all nodes."""
        return self.num_devices * self.num_nodes


LOGGERS = {"csv": None, "wandb": "wandb", "tensorboard": "tensorboard", "trackio": "trackio"}
"""Logger -> package that it needs, which is also the name of an extra of ours."""


@dataclass(frozen=True, kw_only=True)
class Logger:
    """Loggers of training curves beside `metrics.csv`, which is always written.

    Attributes:
        name: `csv` (no other logger), `wandb`, `tensorboard`, `trackio`, or several: `wandb+csv`,
            which `logger=[wandb,csv]` stands for.
        project: Project in W&B and trackio.
        entity: W&B team or user, or None for the default.
        group: Group of runs in W&B and trackio; with `experiment=NAME` its name.
    """

    name: str = "csv"
    project: str = "alps"
    entity: str | None = None
    group: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The loggers besides `metrics.csv`."""
        return tuple(name for name in dict.fromkeys(self.name.split("+")) if name != "csv")

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        from importlib.util import find_spec

        for name in self.names:
            if name not in LOGGERS:
                yield f"logger={name} is not possible{did_you_mean(name, LOGGERS)}"
            elif (package := LOGGERS[name]) and find_spec(package) is None:
                yield f"logger={name} needs the {package} package: run `pip install 'alps[{name}]'`"


@dataclass(frozen=True, kw_only=True)
class Evals:
    """Benchmarks after a training, and how they are run.

    Attributes:
        name: Name of the set of benchmarks.
        benchmarks: The benchmarks.
        batch_size: Prompts per batch, or `auto` for as many as fit into memory.
        backend: Generation backend: `hf`, or `vllm` (requires that package and one device).
        precision: `32`, `tf32` (float32 weights, TF32 matrix products; GPUs only), `bf16` (a
            bfloat16 copy of the model), or `auto`: `tf32` on GPUs, `32` on CPUs, `bf16` with vLLM
            and where `optim.frozen_dtype` is not float32. A stored evaluation counts under `auto`
            whatever its precision.
        data_dir: Folder with local files of the benchmarks' documents, or None for the hub.
        every_n_epochs: Also evaluate during the training, after every n epochs; or None.
        epoch_limit: Documents per benchmark during the training.
        allow_unsafe_code: Execute generated code without protection if there is no sandbox.
        skip_unprotected: Without sandbox or consent, skip such benchmarks with a warning instead of
            refusing the run: for sets in which no such benchmark was requested by name.
    """

    name: str = "none"
    benchmarks: tuple[Benchmark, ...] = ()
    batch_size: int | Literal["auto"] = "auto"
    backend: Literal["hf", "vllm"] = "hf"
    precision: Literal["auto", EvaluationPrecision] = "auto"
    data_dir: str | None = None
    every_n_epochs: int | None = None
    epoch_limit: int = 32
    allow_unsafe_code: bool = False
    skip_unprotected: bool = False

    @property
    def allowed(self) -> tuple[Benchmark, ...]:
        """Benchmarks that may run: generated code requires a sandbox or the user's consent."""
        consent = self.allow_unsafe_code
        return tuple(b for b in self.benchmarks if consent or b.protected())

    @property
    def refused(self) -> tuple[Benchmark, ...]:
        """Requested benchmarks that may not run."""
        requested = () if self.skip_unprotected else self.benchmarks
        return tuple(b for b in requested if b not in self.allowed)

    @property
    def documents_dir(self) -> Path | None:
        """`data_dir` as a path."""
        return Path(self.data_dir).expanduser() if self.data_dir else None

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        for name in ("batch_size", "every_n_epochs", "epoch_limit"):
            value = getattr(self, name)
            if value not in (None, "auto") and value < 1:
                yield f"evals.{name} must be at least 1, got {value}"
        for benchmark in self.benchmarks:
            yield from name_problems(benchmark.name, "the name of a benchmark")
        if self.documents_dir is not None and not os.path.isdir(self.documents_dir):
            yield f"evals.data_dir: {self.data_dir} is not a folder"
