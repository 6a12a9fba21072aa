"""What a run is: frozen settings, and the key that names the run's folder.

Everything past `config.build` is made of the dataclasses here, in `families` and in
`infrastructure`. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from alps.base.hashing import canonical, digest, excluded_from_key
from alps.base.serialization import name_problems, seed_problems
from alps.settings.infrastructure import Evals, Logger, Trainer
from alps.settings.interfaces import FrozenDtype, Method, Source
from alps.settings.model import Model

ALGORITHM_VERSION = 2
"""Raised whenever a fix changes the numbers a run ends in; part of every key."""


Precision = Literal["auto", "32", "bf16-mixed", "16-mixed", "bf16-true"]
Weights = Literal["keep", "qkv", "drop"]
"""What stays of a run's trained weights: all, q, k and v (enough to score them), or nothing."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Optimizer, schedule and numeric precision of a training.

    Attributes:
        name: Name of the choice, for tables.
        lr: Peak learning rate.
        batch_size: Effective batch, in examples per optimizer step over all devices.
        epochs: Passes over the training rows.
        max_steps: Stop after so many optimizer steps, or None; the schedule ends there too.
        betas: AdamW's averaging factors.
        eps: AdamW's epsilon.
        weight_decay: Decoupled decay of trainable matrices (never of biases and norms).
        warmup_ratio: Share of the steps in which the rate rises linearly.
        min_lr_ratio: Share of the peak rate that the cosine ends in.
        clip_norm: Largest gradient norm, or None.
        precision: What Lightning calls precision; `auto` is bf16-mixed on GPU and 32 on CPU.
        frozen_dtype: How weights that do not train are kept: `float32`, `bfloat16` in half the
            memory, or `nf4`: matrices of the layers in 4 bits. What trains is float32 in any case.
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
        """Sentences about settings that cannot be used."""
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
    """How a scored method obtains its task model: by a training run, or from `path`.

    Attributes:
        name: Name of the choice.
        method: What the run that makes the task model trains.
        fraction: Share of the training rows it sees.
        data: Another dataset to make it from (transfer), or None for the run's own.
        path: A finished task model: hub id or folder. Then nothing is trained.
    """

    name: str = excluded_from_key("sft")
    method: Method | None = excluded_from_key()
    fraction: float = excluded_from_key(1.0)
    data: Source | None = excluded_from_key()
    path: str | None = excluded_from_key()

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        if self.method is None and self.path is None:
            yield (
                f"task_model={self.name} needs a finished model: "
                "set task_model.path=<hub id or folder>"
            )

    def fingerprint(self) -> Any:
        """Content of a finished task model, else what makes it."""
        if self.path:
            return Model(path=self.path).fingerprint()
        return canonical([self.method, self.fraction, self.data])


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trained model, fully described. The first five fields are science, the rest is not."""

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
        """Sentences about parts that do not go together, or cannot name a folder."""
        yield from name_problems(self.method.name, "method.name")
        if (task := self.task_run()) is not None:
            yield from name_problems(task.method.name, "task_model.method.name")
        yield from seed_problems(self.seed, "seed")
        if not self.output_dir:
            yield "output_dir must name a folder, got an empty text"
        if self.optim.frozen_dtype != "float32" and not self.method.freezes_the_rest:
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
        """Names the evaluation of its base model; of the data, only the template shapes prompts."""
        return _base_key([self.model, self.data.template])

    @property
    def base_data_key(self) -> str:
        """Names that of benchmarks that read the data; how many rows train doesn't matter."""
        every = {"max_examples": None, "fraction": 1.0, "subset_seed": 0, "skip_examples": 0}
        return _base_key([self.model, replace(self.data, **every)])

    @property
    def sharded(self) -> bool:
        """Whether weights, gradients and optimizer states are spread over the devices (FSDP)."""
        if self.trainer.strategy != "auto":
            return self.trainer.strategy == "fsdp"
        return self.model.sharded and not self.method.freezes_the_rest

    @property
    def precision(self) -> Precision:
        """What the trainer is asked for: sharded, there is no fp16, and bf16-mixed takes its place.

        What deviates from `optim.precision` is recorded in `result.json`.
        """
        asked = self.optim.precision
        return "bf16-mixed" if self.sharded and asked == "16-mixed" else asked

    @property
    def folder(self) -> Path:
        """Where this run lives."""
        return Path(self.output_dir) / "runs" / self.key

    @property
    def base_folder(self) -> Path:
        """Where evaluations of its base model live, but for those that read its data."""
        return Path(self.output_dir) / "evals" / self.base_key

    @property
    def base_data_folder(self) -> Path:
        """Where those live that read its data."""
        return Path(self.output_dir) / "evals" / self.base_data_key

    def task_run(self) -> Run | None:
        """The run that makes this run's task model, or None where none is needed."""
        wanted: TaskModel | None = getattr(self.method, "task_model", None)
        if wanted is None or wanted.path is not None:
            return None
        assert wanted.method is not None
        data = wanted.data or self.data
        share = Fraction(str(data.fraction)) * Fraction(str(wanted.fraction))  # 0.2 * 0.1 is 0.02
        data = replace(data, fraction=float(share))
        optim = self.optim
        if not wanted.method.freezes_the_rest:
            optim = replace(optim, frozen_dtype="float32")
        return replace(self, method=wanted.method, data=data, optim=optim, evals=Evals())


def _base_key(parts: list[Any]) -> str:
    identity = {"algorithm": ALGORITHM_VERSION, "base": canonical(parts)}
    return f"base-{digest(identity)[:12]}"
