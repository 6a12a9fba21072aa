"""Memory of a training on one device, and the micro-batch that fits.

What is counted, for T tokens of a micro-batch (padding included), A answer tokens among them, d the
width of the residual stream, q and k the widths of queries and keys, f the width inside the MLP:

- In full precision and with everything training, autograd keeps 6d + 2q + 2k + 4f numbers for each
  token and layer: for each of two norms its input, its normalized input and its output (6d);
  queries, keys, values and outputs of fused attention (2q + 2k); gate, its activation, up, and
  their product (4f). Two norms and the softmax add a number for each norm and head.
- Where weights are frozen but a gradient passes, 2d + 2q + 2k + 3f: the inputs of layers whose
  weights don't train are not needed. Chosen heads or adapters on q, k and v bring back d.
- Below the lowest layer with something trainable nothing is kept; in that layer, the first norm
  keeps nothing.
- With activation checkpointing, only the input of each layer that a gradient visits.
- Gradients are there from the start, as when a step has several micro-batches.
- For a moment, the largest of: log-probabilities with their gradient and that of the logits, 3 A
  vocab numbers in float32; the gradient of the output layer's matrix and that of the logits; 3f
  numbers for each token in the MLP of the layer whose backward pass runs (under checkpointing, with
  all that the layer keeps). At the very end, when all else is freed, the gradient of the embedding,
  of a tied one three times: from below, from above, and their sum.

Under mixed precision the residual stream and the norms stay in float32, matrix products keep
half-precision copies of their inputs (q, k and v one each) and of the weights a gradient passes.

Left out: a second output of attention where samples are packed, scores that attention keeps where
it is not fused, copies of gradients between devices, temporary results of an optimizer that is not
fused, workspace of libraries and fragmentation (a few hundred MB on a GPU), and on a CPU the
program itself. Leave some room for them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from alps.cost.autograd import Block, Linear, blocks, output_layer
from alps.cost.shape import ModelShape
from alps.models.training_plan import TrainingPlan
from alps.settings.run import Run

FLOAT32_BYTES = 4
"""Of a float32 number, in which norms and the loss are computed under any precision."""

USABLE_MEMORY = 0.85
"""Share of a device's memory that a prediction may fill: it leaves out some of what there is."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How the numbers of a training are kept.

    Attributes:
        trainable_bytes: Of a parameter that trains; its gradient and each optimizer state likewise.
        frozen_bytes: Of a frozen parameter.
        matrix_bytes: Of a number in a layer's frozen matrix, where that is another one: 0.5625 in
            4 bits with a float32 scale for each block of 64.
        activation_bytes: Of a number that a matrix product takes or gives: 2 under mixed precision.
        optimizer_states: Numbers the optimizer keeps for each trainable parameter: AdamW's two.
        checkpointing: Whether activations inside a layer are computed again in the backward pass.
        shards: Devices that share weights, gradients and optimizer states (FSDP); 1 for none.
    """

    trainable_bytes: int = 4
    frozen_bytes: int = 4
    matrix_bytes: float | None = None
    activation_bytes: int = 4
    optimizer_states: int = 2
    checkpointing: bool = False
    shards: int = 1

    @property
    def mixed(self) -> bool:
        """Whether matrix products work on copies of lower precision."""
        return self.activation_bytes < self.trainable_bytes


def storage(run: Run, precision: str) -> Storage:
    """How a run keeps its numbers.

    Args:
        run: The run.
        precision: What its trainer really uses.
    """
    return Storage(
        frozen_bytes=4 if run.optim.frozen_dtype == "float32" else 2,
        matrix_bytes=0.5625 if run.optim.frozen_dtype == "nf4" else None,
        activation_bytes=2 if "mixed" in precision or "16" in precision else 4,
        checkpointing=run.trainer.activation_checkpointing,
    )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the peak of a training step, where the forward pass ends.

    Attributes:
        weights: All parameters, those of chosen rows and adapters and copies in half precision too.
        gradients: Of what trains.
        optimizer: States of the optimizer.
        activations: What autograd keeps of the layers.
        working: What is needed for a moment, beyond that.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    working: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.working


def peak_memory(
    shape: ModelShape,
    plan: TrainingPlan,
    num_tokens: int,
    num_answers: int,
    storage: Storage = Storage(),
) -> Memory:
    """Predicted memory of a training step, as the module describes it.

    Args:
        shape: Sizes of the model.
        plan: What trains.
        num_tokens: Tokens of a micro-batch, padding included: rows times the longest, or those of a
            packed row.
        num_answers: Tokens among them whose logits are computed.
        storage: How numbers are kept.
    """
    trainable = shape.num_trainable(plan)
    inside = trainable if plan.lora is None and plan.heads is None else 0
    if plan.heads is not None and plan.rest:  # a HeadLinear keeps the frozen matrix whole
        inside = shape.num_parameters - shape.num_qkv
    frozen = shape.num_parameters - inside
    layers = [_kept(shape, plan, b, storage) for b in blocks(shape, plan) if b.in_graph]
    one_layer = 3 * shape.intermediate * storage.activation_bytes
    if storage.checkpointing:
        one_layer += max(layers)
        layers = [shape.hidden * FLOAT32_BYTES for _ in layers]
    kept = num_tokens * (sum(layers) + _norm(shape.hidden, True, plan.rest))
    kept += num_answers * _inputs_kept([output_layer(shape, plan)], storage)
    logits = num_answers * shape.vocab * FLOAT32_BYTES
    matrix = shape.vocab * shape.hidden * storage.trainable_bytes * plan.rest
    at_the_end = matrix * (3 if shape.tied else 1) - kept
    weights = trainable * storage.trainable_bytes + frozen * storage.frozen_bytes
    if storage.matrix_bytes is not None:  # only where no whole matrix trains
        in_layers = shape.num_matmul - shape.vocab * shape.hidden
        weights += round(in_layers * (storage.matrix_bytes - storage.frozen_bytes))
    shards = storage.shards
    copies, gathered = _weight_copies(shape, plan, storage), 0
    if shards > 1:  # copies last as long as a layer is gathered: the present one and the next
        copies, gathered = 0, 2 * _largest_unit(shape) * storage.activation_bytes
    return Memory(
        weights=math.ceil(weights / shards) + copies,
        gradients=math.ceil(trainable * storage.trainable_bytes / shards),
        optimizer=math.ceil(trainable * storage.trainable_bytes / shards)
        * storage.optimizer_states,
        activations=kept,
        working=max(3 * logits, logits + matrix, num_tokens * one_layer, at_the_end) + gathered,
    )


def _largest_unit(shape: ModelShape) -> int:
    """Parameters that FSDP gathers at once: of a layer, or of the embedding."""
    embedding = shape.vocab * shape.hidden
    layer = (shape.num_matmul - embedding) // shape.geometry.num_layers
    return max(layer, embedding)


def largest_micro_batch(
    shape: ModelShape,
    plan: TrainingPlan,
    length: int,
    answer_share: float,
    budget: int,
    storage: Storage = Storage(),
) -> int:
    """Most rows of `length` tokens whose predicted peak fits into `budget` bytes.

    Args:
        shape: Sizes of the model.
        plan: What trains.
        length: Tokens of the longest row.
        answer_share: Share of the tokens whose logits are computed, in [0, 1].
        budget: Bytes there are, less the room for what the prediction leaves out.
        storage: How numbers are kept.

    Raises:
        ValueError: If not even one row fits, with what to change.
    """

    def peak(rows: int) -> int:
        tokens = rows * length
        return peak_memory(shape, plan, tokens, math.ceil(answer_share * tokens), storage).total

    if peak(1) > budget:
        raise ValueError(_too_large(peak(0), peak(1), budget, length))
    fits, too_many = 1, 2
    while peak(too_many) <= budget:
        fits, too_many = too_many, 2 * too_many
    return bisect_right(range(fits, too_many), budget, key=peak) + fits - 1


def _kept(shape: ModelShape, plan: TrainingPlan, block: Block, storage: Storage) -> int:
    """Bytes for each token that autograd keeps of one layer."""
    m, g, number = block.linears, shape.geometry, storage.activation_bytes
    queries, keys = m["q_proj"].outputs, m["k_proj"].outputs
    middle = m["gate_proj"].passes_gradient
    kept = _norm(shape.hidden, block.passes_gradient, plan.rest)
    kept += _inputs_kept([m["q_proj"], m["k_proj"], m["v_proj"]], storage)
    if shape.head_norms:
        kept += _norm(queries, block.query_gradient, plan.rest, g.num_heads)
        kept += _norm(keys, block.key_gradient, plan.rest, g.num_kv_heads)
    if block.attention_gradient:
        kept += number * 2 * (queries + keys) + FLOAT32_BYTES * g.num_heads
    # What attention gives is kept already, but peft converts it for an adapter.
    if not block.attention_gradient or (storage.mixed and m["o_proj"].rank):
        kept += _inputs_kept([m["o_proj"]], storage)
    kept += _norm(shape.hidden, middle, plan.rest)
    kept += _inputs_kept([m["gate_proj"], m["up_proj"]], storage)
    if m["down_proj"].passes_gradient:
        kept += number * 3 * shape.intermediate
    kept += _inputs_kept([m["down_proj"]], storage)
    return kept + number * sum(linear.rank for linear in m.values())


def _norm(width: int, passes_gradient: bool, trains: bool, num_heads: int = 1) -> int:
    """Bytes that an RMS norm keeps: input, its scales, and the normalized input for its weight."""
    return FLOAT32_BYTES * ((width + num_heads) * passes_gradient + width * trains)


def _inputs_kept(linears: Iterable[Linear], storage: Storage) -> int:
    """Bytes that linear layers of one common input keep of it, for weights that train."""
    keeping = [linear for linear in linears if linear.trains]
    if not keeping:
        return 0
    width = keeping[0].inputs
    if not storage.mixed:
        return width * storage.activation_bytes
    copies = sum(not linear.by_rows for linear in keeping)
    shared = any(linear.by_rows for linear in keeping)  # a HeadLinear keeps the input as it is
    return width * (copies * storage.activation_bytes + shared * FLOAT32_BYTES)


def _weight_copies(shape: ModelShape, plan: TrainingPlan, storage: Storage) -> int:
    """Bytes of the half-precision matrices that mixed precision keeps until the backward pass."""
    if not storage.mixed:
        return 0
    layers = [list(block.linears.values()) for block in blocks(shape, plan)]
    layers.append([output_layer(shape, plan)])
    copies = [sum(_copy(linear, storage) for linear in layer) for layer in layers]
    return max(copies) if storage.checkpointing else sum(copies)


def _copy(linear: Linear, storage: Storage) -> int:
    """Bytes of the copies of a layer's weights; a HeadLinear keeps its matrix as it is."""
    stored = storage.trainable_bytes if linear.num_rows else storage.frozen_bytes
    needed = linear.passes_gradient or linear.num_rows > 0
    copied = needed and not linear.by_rows and storage.activation_bytes < stored
    adapter = linear.rank * (linear.inputs + linear.outputs)
    return storage.activation_bytes * (linear.inputs * linear.outputs * copied + adapter)


def _too_large(fixed: int, one_row: int, budget: int, length: int) -> str:
    """Why nothing fits, and what to change."""
    gib = 2**30
    if fixed > budget:
        what, shorter = f"weights, gradients and optimizer need {fixed / gib:.1f}", ""
    else:
        what = f"one row of {length} tokens needs {one_row / gib:.1f}"
        shorter = "a smaller data.max_length, "
    return (
        f"{what} GiB of memory, but there are {budget / gib:.1f}: "
        f"{shorter}scope=heads_only, method=lora or a smaller model needs less"
    )
