"""Predicted FLOPs, device memory and disk usage of a run, without loading a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from alps.cost.flops import Workload, step_flops
from alps.cost.memory import peak_memory
from alps.cost.micro_batch import USABLE_MEMORY, largest_micro_batch
from alps.cost.placement import Placement, place
from alps.cost.shape import ModelShape
from alps.cost.storage import FLOAT32_BYTES, Storage, storage
from alps.methods.expected_plan import expected_plan, sampled_equivalent
from alps.models.training_plan import TrainingPlan
from alps.plan.assumptions import GIB, Assumptions
from alps.settings.interfaces import Source
from alps.settings.model import Model
from alps.settings.run import Run

LENGTH_SPREAD = 1.5
"""Assumed mean square of example lengths over their squared mean."""

BYTE_TOKENS = 260
"""Vocabulary size of models with random weights (`byte_tokenizer`)."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Predicted cost of a run.

    Attributes:
        flops: FLOPs of the training.
        memory: Peak bytes of a device with the requested micro-batch size.
        devices: Devices of a node that share the training.
        shards: Devices among which its weights are sharded; 1 for none.
        micro_batch: Examples per forward pass: as requested, or the most that fit.
        one_row: Peak bytes with one example per forward pass.
        fitting: Most examples that fit, 0 if not even one, or None if as many as requested.
        weights: Bytes of the trained parameters.
        qkv: Bytes left by `weights=qkv`: all q, k and v, unless the trained parameters are fewer.
        resume: Bytes of the checkpoint, which is deleted at the end.
        num_rows: Training examples.
        tokens: Tokens over all epochs.
    """

    flops: float
    memory: int
    devices: int
    shards: int
    micro_batch: int
    one_row: int
    fitting: int | None
    weights: int
    qkv: int
    resume: int
    num_rows: int
    tokens: float

    @property
    def fits(self) -> bool:
        """Whether the requested micro-batch size fits."""
        return self.fitting is None


@dataclass
class CostEstimator:
    """Predicts costs; parts that several runs share are computed once.

    Attributes:
        assumed: Assumptions of the plan.
        known: Parts computed so far.
    """

    assumed: Assumptions
    known: dict[Any, Any] = field(default_factory=dict)

    def estimate(self, run: Run) -> Cost | None:
        """Cost of a run, or None if its model's shape or number of examples is unknown."""
        shape, num_rows = model_shape(run.model), num_training_examples(run.data)
        if shape is None or num_rows is None:
            return None
        trains = (sampled_equivalent(run.method), shape.geometry, run.seed)
        plan = self._once(("plan", *trains), lambda: expected_plan(*trains))
        work = self._workload(run, num_rows)
        flops = self._once(("flops", shape, *trains, work), lambda: step_flops(shape, plan, work))
        again = flops.forward if run.trainer.activation_checkpointing else 0.0
        trainable = self._once(("size", shape, *trains), lambda: shape.num_trainable(plan))
        place_key = ("place", shape, *trains, self._longest(run), self._storage(run), run.trainer)
        placement = self._once(place_key, lambda: self._placement(run, shape, plan))
        longest, requested, stored = self._setting(run, placement)
        memory, micro_batch, one_row, fitting = self._once(
            ("memory", shape, *trains, longest, requested, self._micro_batch(run), stored),
            lambda: self._peak(run, shape, plan, placement),
        )
        tokens = examples_seen(run, num_rows) * work.mean_length
        return Cost(
            flops=(flops.total + again) * tokens,
            memory=memory,
            devices=placement.devices,
            shards=stored.shards,
            micro_batch=micro_batch,
            one_row=one_row,
            fitting=fitting,
            weights=FLOAT32_BYTES * trainable,
            qkv=FLOAT32_BYTES * min(trainable, shape.num_qkv),
            resume=3 * FLOAT32_BYTES * trainable,
            num_rows=num_rows,
            tokens=tokens,
        )

    def _placement(self, run: Run, shape: ModelShape, plan: TrainingPlan) -> Placement:
        """Devices of a run on a node with `node_devices` of them; a CPU is one."""
        trainer, share = run.trainer, self.assumed.answer_share
        on_cpu = trainer.accelerator == "cpu" or self.assumed.gpu == "laptop"
        if trainer.devices != "auto":
            return Placement(devices=trainer.devices, strategy="fsdp" if run.sharded else "ddp")
        longest, stored = self._longest(run), self._storage(run)

        def peak(size: int) -> int:
            tokens = size * longest
            return peak_memory(shape, plan, tokens, math.ceil(share * tokens), stored).total

        found = place(peak, self._budget, 1 if on_cpu else self.assumed.node_devices)
        if trainer.num_nodes > 1 and not on_cpu:
            found = replace(found, devices=self.assumed.node_devices)
        return found if trainer.strategy == "auto" else replace(found, strategy=trainer.strategy)

    @property
    def _on_gpu(self) -> bool:
        return self.assumed.gpu != "laptop"

    def _micro_batch(self, run: Run) -> int | Literal["auto"]:
        return run.trainer.requested_micro_batch(self._on_gpu)

    def _once(self, name: Any, count: Callable[[], Any]) -> Any:
        if name not in self.known:
            self.known[name] = count()
        return self.known[name]

    def _workload(self, run: Run, num_rows: int) -> Workload:
        mean = min(self.assumed.lengths_of(run.data.name).tokens, run.data.max_length)
        return Workload(
            mean_length=mean,
            mean_square_length=LENGTH_SPREAD * mean * mean,
            answer_share=self.assumed.answer_share,
            tokens_per_step=mean * min(run.optim.batch_size, num_rows),
        )

    @property
    def _budget(self) -> int:
        """Usable bytes of a device."""
        return int(USABLE_MEMORY * self.assumed.device.memory * GIB)

    def _longest(self, run: Run) -> int:
        """Tokens of the longest example."""
        rows = self.assumed.lengths_of(run.data.name)
        return min(rows.longest or run.data.max_length, run.data.max_length)

    def _storage(self, run: Run) -> Storage:
        """Storage of an unsharded training."""
        stored = storage(run, run.precision_on(self._on_gpu), self._on_gpu)
        return replace(stored, shards=1, buckets=False)

    def _setting(self, run: Run, placement: Placement) -> tuple[int, int, Storage]:
        """Longest example, requested micro-batch size, and storage.

        For `auto`, the micro-batch size is the whole step, reduced later if it does not fit.
        """
        world_size = placement.devices * run.trainer.num_nodes
        most = -(-run.optim.batch_size // world_size)
        shards = world_size if placement.strategy == "fsdp" else 1
        requested = self._micro_batch(run)
        buckets = world_size > 1 and shards == 1
        stored = replace(self._storage(run), shards=shards, buckets=buckets)
        return self._longest(run), most if requested == "auto" else min(requested, most), stored

    def _peak(
        self, run: Run, shape: ModelShape, plan: TrainingPlan, placement: Placement
    ) -> tuple[int, int, int, int | None]:
        """Values of `memory`, `micro_batch`, `one_row` and `fitting` of `Cost`."""
        longest, size, stored = self._setting(run, placement)
        share, budget = self.assumed.answer_share, self._budget

        def peak(size: int) -> int:
            tokens = size * longest
            return peak_memory(shape, plan, tokens, math.ceil(share * tokens), stored).total

        memory, one_row = peak(size), peak(1)
        if memory <= budget:
            return memory, size, one_row, None
        auto, fitting = self._micro_batch(run) == "auto", 0
        if one_row <= budget:
            fitting = largest_micro_batch(shape, plan, longest, share, budget, stored)
        if auto and fitting:
            return peak(fitting), fitting, one_row, None
        return (one_row, 1, one_row, 0) if auto else (memory, size, one_row, fitting)


def examples_seen(run: Run, num_rows: int) -> int:
    """Training examples over all epochs, or over `max_steps`."""
    optim = run.optim
    steps = optim.epochs * math.ceil(num_rows / optim.batch_size)
    if optim.max_steps is not None and optim.max_steps < steps:
        return optim.max_steps * min(optim.batch_size, num_rows)
    return optim.epochs * num_rows


def model_shape(model: Model) -> ModelShape | None:
    """Sizes of a model from its settings or a local folder; nothing is downloaded."""
    if model.path:
        return ModelShape.read(Path(model.path)) if Path(model.path).is_dir() else None
    config: Mapping[str, Any] | None = model.shape
    if config is None and model.random:
        config = {"model_type": "llama", "vocab_size": BYTE_TOKENS, **model.random}
    return ModelShape.of(config, f"model={model.name}") if config else None


def num_training_examples(source: Source) -> int | None:
    """Training examples before unusable ones are left out, or None if unknown."""
    total = getattr(source, "num_rows", None)
    if generator := getattr(source, "generator", None):
        total = import_module(f"alps.data.generators.{generator}").NUM_TRAIN
    elif total is not None:
        total = round(total * (1 - getattr(source, "test_fraction", 0.0)))
    if total is not None:
        total = max(0, total - source.skip_examples)
    sizes = [size for size in (total, source.max_examples) if size is not None]
    return math.ceil(Fraction(str(source.fraction)) * min(sizes)) if sizes else None
