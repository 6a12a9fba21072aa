"""Settings of a run, and the key that names its folder.

Code past `alps.config` sees only these frozen dataclasses and those of `interfaces`, `model` and
`infrastructure`. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from alps.base.hashing import digest
from alps.base.key import canonical, excluded_from_key
from alps.base.serialization import name_problems, seed_problems
from alps.settings.infrastructure import Evals, Logger, Trainer
from alps.settings.interfaces import FrozenDtype, Method, Source
from alps.settings.model import Model

ALGORITHM_VERSION = 2
"""Raised whenever a fix changes results; part of every key."""

Precision = Literal["auto", "32", "bf16-mixed", "16-mixed", "bf16-true"]
Weights = Literal["keep", "qkv", "drop"]
"""Trained weights to keep: all, q, k and v (enough for scores), or none."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Optimizer, schedule and numeric precision of a training.

    Attributes:
        name: Name of the choice, for tables.
        lr: Peak learning rate.
        batch_size: Effective batch size: examples per optimizer step over all devices.
        epochs: Passes over the training examples.
        max_steps: Maximum number of optimizer steps, or None; the schedule ends there too.
        betas: AdamW's decay rates of the first and second moments.
        eps: AdamW's epsilon.
        weight_decay: Decoupled decay of trainable matrices (never of biases and norms).
        warmup_ratio: Share of the steps with linear warm-up.
        min_lr_ratio: Final learning rate of the cosine, as a share of the peak.
        clip_norm: Maximum gradient norm, or None.
        precision: Precision of Lightning's trainer; `auto` is bf16-mixed on GPU and 32 on CPU.
        frozen_dtype: Dtype of frozen weights: `float32`, `bfloat16`, or `nf4` (matrices of the
            layers in 4 bits). Trainable parameters are float32 in any case.
    """

    name: str = excluded_from_key("optim")
    lr: float
    batch_size: int
    epochs: int
    max_steps: int | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.1
    warmup_ratio: float = 0.1
    min_lr_ratio: float = 0.1
    clip_norm: float | None = 1.0
    precision: Precision = "auto"
    frozen_dtype: FrozenDtype = "float32"

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        if not self.lr > 0:
            yield f"optim.lr must be positive, got {self.lr}"
        for name in ("batch_size", "epochs", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f"optim.{name} must be at least 1, got {value}"
        for name in ("warmup_ratio", "min_lr_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"optim.{name} must lie in [0, 1], got {getattr(self, name)}"
        if self.weight_decay < 0:
            yield f"optim.weight_decay must not be negative, got {self.weight_decay}"
        if not all(0 <= beta < 1 for beta in self.betas):
            yield f"optim.betas must lie in [0, 1), got {list(self.betas)}"
        if not self.eps > 0:
            yield f"optim.eps must be positive, got {self.eps}"
        if self.clip_norm is not None and not self.clip_norm > 0:
            yield f"optim.clip_norm must be positive or null, got {self.clip_norm}"


@dataclass(frozen=True, kw_only=True)
class TaskModel:
    """Task model of a scored method: trained by a run of its own, or loaded from `path`.

    Attributes:
        name: Name of the choice.
        method: Method of the run that trains the task model.
        fraction: Share of the training examples in that run.
        data: Another dataset for it (transfer), or None for the run's own.
        path: A finished task model: hub id or folder. Nothing is trained for it.
    """

    name: str = excluded_from_key("sft")
    method: Method | None = excluded_from_key()
    fraction: float = excluded_from_key(1.0)
    data: Source | None = excluded_from_key()
    path: str | None = excluded_from_key()

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        if self.method is None and self.path is None:
            yield (
                f"task_model={self.name} needs a finished model: "
                "set task_model.path=<hub id or folder>"
            )

    def fingerprint(self) -> Any:
        """Content of a finished task model, else the settings that train it."""
        if self.path:
            return Model(path=self.path).fingerprint()
        return canonical([self.method, self.fraction, self.data])


@dataclass(frozen=True, kw_only=True)
class Run:
    """A complete description of one trained model. Only the first five fields enter its key."""

    method: Method
    model: Model
    data: Source
    optim: Optim
    seed: int = 0
    trainer: Trainer = field(default=Trainer(), metadata={"identity": False})
    logger: Logger = field(default=Logger(), metadata={"identity": False})
    evals: Evals = field(default=Evals(), metadata={"identity": False})
    output_dir: str = excluded_from_key("outputs")

    def problems(self) -> Iterator[str]:
        """Sentences about incompatible parts and invalid names."""
        yield from name_problems(self.method.name, "method.name")
        if (task := self.task_run()) is not None:
            yield from name_problems(task.method.name, "task_model.method.name")
        yield from seed_problems(self.seed, "seed")
        if not self.output_dir:
            yield "output_dir must name a folder, got an empty text"
        if self.sharded and self.optim.frozen_dtype == "nf4":
            yield "trainer.strategy=fsdp shards no 4-bit weights: set optim.frozen_dtype=bfloat16"
        if self.sharded and self.precision == "16-mixed":
            yield (
                "trainer.strategy=fsdp has no fp16: set optim.precision=bf16-mixed, or "
                "model.sharded=true for all runs of this model"
            )
        if self.optim.frozen_dtype != "float32" and not self.method.freezes_rest:
            yield (
                f"optim.frozen_dtype={self.optim.frozen_dtype} keeps what does not train in less "
                f"room, but method={self.method.name} trains whole matrices beside: use "
                "scope=heads_only or method=lora"
            )

    @property
    def key(self) -> str:
        """`<method>-<12 hex>`: hash of settings, content of data and model, algorithm version."""
        identity = {"algorithm": ALGORITHM_VERSION, "run": canonical(self)}
        return f"{self.method.name}-{digest(identity)[:12]}"

    @property
    def base_key(self) -> str:
        """Key of its base model's evaluation; prompts depend on the template, not on the data."""
        return _base_key([self.model, self.data.template])

    @property
    def base_data_key(self) -> str:
        """Key of benchmarks that read the data; the training subset does not matter."""
        every = {"max_examples": None, "fraction": 1.0, "subset_seed": 0, "skip_examples": 0}
        return _base_key([self.model, replace(self.data, **every)])

    @property
    def sharded(self) -> bool:
        """Whether weights, gradients and optimizer states are sharded over the devices (FSDP)."""
        if self.trainer.strategy != "auto":
            return self.trainer.strategy == "fsdp"
        return self.model.sharded and not self.method.freezes_rest

    @property
    def strategy(self) -> Literal["single", "ddp", "fsdp"]:
        """How its ranks share the training."""
        if self.trainer.world_size == 1:
            return "single"
        return "fsdp" if self.sharded else "ddp"

    @property
    def precision(self) -> Precision:
        """Precision of the trainer: sharding has no fp16, so bf16-mixed replaces it.

        It follows from the model, so that all rows of a table have the same, sharded or not;
        `result.json` records deviations from `optim.precision`.
        """
        precision = self.optim.precision
        return "bf16-mixed" if self.model.sharded and precision == "16-mixed" else precision

    def precision_on(self, gpu: bool) -> str:
        """The same, with `auto` resolved for GPUs or CPUs."""
        if self.precision != "auto":
            return self.precision
        return "bf16-mixed" if gpu else "32"

    @property
    def folder(self) -> Path:
        """Folder of this run."""
        return Path(self.output_dir) / "runs" / self.key

    @property
    def base_folder(self) -> Path:
        """Folder of its base model's evaluations, except those that read the data."""
        return Path(self.output_dir) / "evals" / self.base_key

    @property
    def base_data_folder(self) -> Path:
        """Folder of its base model's evaluations that read the data."""
        return Path(self.output_dir) / "evals" / self.base_data_key

    def task_run(self) -> Run | None:
        """The run that trains this run's task model, or None if none is needed."""
        wanted: TaskModel | None = getattr(self.method, "task_model", None)
        if wanted is None or wanted.path is not None:
            return None
        assert wanted.method is not None
        data = wanted.data or self.data
        share = Fraction(str(data.fraction)) * Fraction(str(wanted.fraction))  # exact: 0.02
        data = replace(data, fraction=float(share))
        optim = self.optim
        if not wanted.method.freezes_rest:
            optim = replace(optim, frozen_dtype="float32")
        return replace(self, method=wanted.method, data=data, optim=optim, evals=Evals())


def _base_key(parts: list[Any]) -> str:
    identity = {"algorithm": ALGORITHM_VERSION, "base": canonical(parts)}
    return f"base-{digest(identity)[:12]}"
