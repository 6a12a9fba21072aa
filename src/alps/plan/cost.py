"""What a run will cost: operations, memory of a device, and disk, before there is any model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

from alps.cost.flops import Workload, step_flops
from alps.cost.memory import USABLE_MEMORY, Storage, largest_micro_batch, peak_memory, storage
from alps.cost.shape import ModelShape
from alps.heads.geometry import Geometry
from alps.methods.context import Context
from alps.methods.head_method import HeadMethod
from alps.methods.sampled import LayerConsistent
from alps.models.training_plan import TrainingPlan
from alps.plan.assumptions import GIB, Assumptions
from alps.settings.interfaces import Method, Source
from alps.settings.model import Model
from alps.settings.run import Run

LENGTH_SPREAD = 1.5
"""Mean square of the lengths of rows over the square of their mean, assumed."""

BYTES = 4
"""Of a trained number, which is kept in float32; the optimizer has two more of them."""

BYTE_TOKENS = 260
"""Vocabulary of models with random weights (`byte_tokenizer`)."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run will cost.

    Attributes:
        flops: Operations of the whole training.
        memory: Bytes at the peak of a device, in the asked micro-batch.
        micro_batch: Rows in a forward pass: as asked, or the most that fit.
        one_row: Bytes at the peak with one row in a forward pass.
        fitting: Most rows that fit into the device, 0 if not even one, or None if as many as asked.
        weights: Bytes of the trained parameters.
        qkv: Bytes that `weights=qkv` leaves: those of all q, k and v, unless what trained is less.
        resume: Bytes of the resume point, which goes when the training ends.
        num_rows: Training rows.
        tokens: Tokens that it sees.
    """

    flops: float
    memory: int
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
        """Whether the device holds it as asked."""
        return self.fitting is None


@dataclass
class CostEstimator:
    """Counts costs; what several runs share is counted once.

    Attributes:
        assumed: What the plan takes for granted.
        known: What was counted already.
    """

    assumed: Assumptions
    known: dict[Any, Any] = field(default_factory=dict)

    def estimate(self, run: Run) -> Cost | None:
        """The cost of a run; None if its model's shape or the number of its rows is unknown."""
        shape, num_rows = model_shape(run.model), num_training_examples(run.data)
        if shape is None or num_rows is None:
            return None
        trains = (sampled_equivalent(run.method), shape.geometry, run.seed)
        plan = self._once(("plan", *trains), lambda: training_plan(*trains))
        work = self._workload(run, num_rows)
        flops = self._once(("flops", shape, *trains, work), lambda: step_flops(shape, plan, work))
        again = flops.forward if run.trainer.activation_checkpointing else 0.0
        trainable = self._once(("size", shape, *trains), lambda: shape.num_trainable(plan))
        longest, asked, kept = self._setting(run)
        memory, micro_batch, one_row, fitting = self._once(
            ("memory", shape, *trains, longest, asked, run.trainer.micro_batch_size, kept),
            lambda: self._peak(run, shape, plan),
        )
        tokens = examples_seen(run, num_rows) * work.mean_length
        return Cost(
            flops=(flops.total + again) * tokens,
            memory=memory,
            micro_batch=micro_batch,
            one_row=one_row,
            fitting=fitting,
            weights=BYTES * trainable,
            qkv=BYTES * min(trainable, shape.num_qkv),
            resume=3 * BYTES * trainable,
            num_rows=num_rows,
            tokens=tokens,
        )

    def shards_of(self, run: Run) -> int:
        """Devices that share a sharded run: as many as it asks for, else those of a node."""
        if not run.sharded:
            return 1
        return run.trainer.devices if run.trainer.devices > 1 else self.assumed.node_devices

    def _once(self, name: Any, count: Callable[[], Any]) -> Any:
        if name not in self.known:
            self.known[name] = count()
        return self.known[name]

    def _workload(self, run: Run, num_rows: int) -> Workload:
        mean = min(self.assumed.rows_of(run.data.name).tokens, run.data.max_length)
        return Workload(
            mean_length=mean,
            mean_square_length=LENGTH_SPREAD * mean * mean,
            answer_share=self.assumed.answer_share,
            tokens_per_step=mean * min(run.optim.batch_size, num_rows),
        )

    def _setting(self, run: Run) -> tuple[int, int, Storage]:
        """The longest row, the rows of a micro-batch that are asked for, and how numbers are kept.

        For `auto`, all rows of a step are asked for, and fewer are taken if they do not fit.
        """
        rows, precision = self.assumed.rows_of(run.data.name), run.precision
        longest = min(rows.longest or run.data.max_length, run.data.max_length)
        if precision == "auto":
            precision = "32" if self.assumed.gpu == "laptop" else "bf16-mixed"
        most = -(-run.optim.batch_size // max(run.trainer.devices, self.shards_of(run)))
        asked = run.trainer.micro_batch_size
        kept = replace(storage(run, precision), shards=self.shards_of(run))
        return longest, most if asked == "auto" else min(asked, most), kept

    def _peak(
        self, run: Run, shape: ModelShape, plan: TrainingPlan
    ) -> tuple[int, int, int, int | None]:
        """Memory, micro-batch, memory of one row, and the most rows that fit if not all do."""
        longest, size, kept = self._setting(run)
        share = self.assumed.answer_share
        room = int(USABLE_MEMORY * self.assumed.device.memory * GIB)

        def peak(size: int) -> int:
            tokens = size * longest
            return peak_memory(shape, plan, tokens, math.ceil(share * tokens), kept).total

        memory, one_row = peak(size), peak(1)
        if memory <= room:
            return memory, size, one_row, None
        auto, fitting = run.trainer.micro_batch_size == "auto", 0
        if one_row <= room:
            fitting = largest_micro_batch(shape, plan, longest, share, room, kept)
        if auto and fitting:
            return peak(fitting), fitting, one_row, None
        return (one_row, 1, one_row, 0) if auto else (memory, size, one_row, fitting)


def examples_seen(run: Run, num_rows: int) -> int:
    """Rows of all epochs, or of as many steps as are allowed."""
    optim = run.optim
    steps = optim.epochs * math.ceil(num_rows / optim.batch_size)
    if optim.max_steps is not None and optim.max_steps < steps:
        return optim.max_steps * min(optim.batch_size, num_rows)
    return optim.epochs * num_rows


def model_shape(model: Model) -> ModelShape | None:
    """The sizes of a model, from its settings or a folder on this machine; nothing is fetched."""
    if model.path:
        return ModelShape.read(Path(model.path)) if Path(model.path).is_dir() else None
    config: Mapping[str, Any] | None = model.shape
    if config is None and model.random:
        config = {"model_type": "llama", "vocab_size": BYTE_TOKENS, **model.random}
    return ModelShape.of(config, f"model={model.name}") if config else None


def num_training_examples(source: Source) -> int | None:
    """Rows that a run trains on, before any is left out as unusable; None where nobody knows."""
    total = getattr(source, "num_rows", None)
    if generator := getattr(source, "generator", None):
        total = import_module(f"alps.data.generators.{generator}").NUM_TRAIN
    elif total is not None:
        total = round(total * (1 - getattr(source, "test_fraction", 0.0)))
    if total is not None:
        total = max(0, total - source.skip_examples)
    sizes = [size for size in (total, source.max_examples) if size is not None]
    return math.ceil(Fraction(str(source.fraction)) * min(sizes)) if sizes else None


def sampled_equivalent(method: Method) -> Method:
    """The method; where scores will choose, one that spreads as many heads over the layers.

    Spread heads share KV groups less than real ones, so a few rows too many are counted.
    """
    if not (isinstance(method, HeadMethod) and hasattr(method, "task_model")):
        return method
    shared = {f.name: getattr(method, f.name) for f in fields(HeadMethod)}
    return LayerConsistent(**{**shared, "name": "spread"})


def training_plan(method: Method, geometry: Geometry, seed: int) -> TrainingPlan:
    """The plan of a method that needs no model to choose heads."""
    context = Context(geometry=geometry, seed=seed, base=Path(), base_hash="", output_dir=Path())
    return method.plan(method.choose(context))
