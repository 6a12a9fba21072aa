"""Settings of where and how a run is done: never part of its key.

Nothing here imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alps.base.serialization import name_problems
from alps.settings.interfaces import Benchmark


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Infrastructure of a training; never part of a key.

    Attributes:
        name: Name of the choice.
        accelerator: `auto`, `cpu` or `gpu`.
        devices: Number of local devices (ranks).
        strategy: `ddp`: each device has the whole model; `fsdp`: a shard of it; `auto`: a shard
            where the model is `sharded` and more than heads or adapters train, else the whole.
        micro_batch_size: Rows in one forward pass per device, or `auto` for as many as fit into its
            memory; the effective batch is optim's.
        activation_checkpointing: Compute the activations of each layer again in the backward pass
            instead of keeping them: less memory, about a third more time.
        checkpoint_every_n_steps: Optimizer steps between two checkpoints.
        progress: `auto` (a bar on a terminal, plain lines elsewhere), `lines` or `off`.
    """

    name: str = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    micro_batch_size: int | Literal["auto"] = 8
    activation_checkpointing: bool = False
    checkpoint_every_n_steps: int = 25
    progress: Literal["auto", "lines", "off"] = "auto"

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        for name in ("devices", "micro_batch_size", "checkpoint_every_n_steps"):
            value = getattr(self, name)
            if value != "auto" and value < 1:
                yield f"trainer.{name} must be at least 1, got {value}"


@dataclass(frozen=True, kw_only=True)
class Logger:
    """Where curves go besides `metrics.csv`, which is always written.

    Attributes:
        name: `csv` (nothing else) or `wandb`.
        project: W&B project.
        entity: W&B team or user, or None for the default.
        group: W&B group, or None.
    """

    name: Literal["csv", "wandb"] = "csv"
    project: str = "alps"
    entity: str | None = None
    group: str | None = None

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        from importlib.util import find_spec

        if self.name == "wandb" and find_spec("wandb") is None:
            yield "logger=wandb needs the wandb package: run `pip install 'alps[wandb]'`"


@dataclass(frozen=True, kw_only=True)
class Evals:
    """Which benchmarks follow a training, and how they are asked.

    Attributes:
        name: Name of the set.
        benchmarks: The set.
        batch_size: Prompts generated side by side, or `auto` for as many as memory holds.
        backend: What generates: `hf`, or `vllm` (needs that package, and one device).
        data_dir: Folder with the benchmarks' documents as local files, or None for the hub's.
        every_n_epochs: Examine during the training too, after so many epochs; or None.
        epoch_limit: Documents of every benchmark then.
        allow_unsafe_code: Where there is no sandbox, execute generated code without protection.
        skip_unprotected: Without either, leave such benchmarks out with a warning instead of
            refusing the run: for sets of which nobody asked for one by name.
    """

    name: str = "none"
    benchmarks: tuple[Benchmark, ...] = ()
    batch_size: int | Literal["auto"] = "auto"
    backend: Literal["hf", "vllm"] = "hf"
    data_dir: str | None = None
    every_n_epochs: int | None = None
    epoch_limit: int = 32
    allow_unsafe_code: bool = False
    skip_unprotected: bool = False

    @property
    def allowed(self) -> tuple[Benchmark, ...]:
        """Those that may run: generated code needs a sandbox or the user's consent."""
        consent = self.allow_unsafe_code
        return tuple(b for b in self.benchmarks if consent or b.protected())

    @property
    def refused(self) -> tuple[Benchmark, ...]:
        """Those that were asked for and may not run."""
        asked = () if self.skip_unprotected else self.benchmarks
        return tuple(b for b in asked if b not in self.allowed)

    @property
    def documents_dir(self) -> Path | None:
        """`data_dir` as a path."""
        return Path(self.data_dir).expanduser() if self.data_dir else None

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        for name in ("batch_size", "every_n_epochs", "epoch_limit"):
            value = getattr(self, name)
            if value not in (None, "auto") and value < 1:
                yield f"evals.{name} must be at least 1, got {value}"
        for benchmark in self.benchmarks:
            yield from name_problems(benchmark.name, "the name of a benchmark")
        if self.documents_dir is not None and not os.path.isdir(self.documents_dir):
            yield f"evals.data_dir: {self.data_dir} is not a folder"
