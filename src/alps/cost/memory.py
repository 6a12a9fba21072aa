"""Predicted memory of a training on one device, and the micro-batch size that fits.

Notation: T tokens of a micro-batch (with padding), A answer tokens among them, d the width of the
residual stream, q and k the widths of queries and keys, f the intermediate width of the MLP. The
prediction includes:

- In full precision and with all parameters training, 6d + 2q + 2k + 4f saved elements per token and
  layer: input, normalized input and output of two norms (6d); queries, keys, values and output of
  fused attention (2q + 2k); gate, its activation, up, and their product (4f). Norms and softmax add
  one element per norm and head.
- In layers with frozen weights that a gradient passes, 2d + 2q + 2k + 3f: inputs of frozen linear
  layers are not saved. Trainable heads or adapters on q, k and v add d.
- Nothing below the lowest layer with trainable parameters; in that layer, nothing for the first
  norm.
- With activation checkpointing, only the input of each layer in the backward pass.
- Gradients throughout the step, as with several micro-batches.
- Temporarily, the largest of: log-probabilities with their gradient and that of the logits, 3 A
  vocab elements in float32; the gradients of the output matrix and of the logits; 3f elements per
  token in the MLP of the layer in its backward pass (with checkpointing, plus the saved elements of
  the layer). At the end, with all else freed, the gradient of the embedding; of tied embeddings
  three times: from the output, from the input, and their sum.

Under mixed precision the residual stream and norms stay in float32; matrix products save
half-precision copies of their inputs (one each for q, k and v) and of weights that a gradient
passes.

Excluded: a second output of attention with packed examples, attention scores without fused
attention, copies of gradients between devices, temporary results of an unfused optimizer, library
workspaces and fragmentation (a few hundred MB on a GPU), and on a CPU the program itself.
`USABLE_MEMORY` leaves space for them.
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
"""Bytes of a float32 element; norms and the loss are float32 under any precision."""

USABLE_MEMORY = 0.85
"""Share of a device's memory that a prediction may use, as predictions are incomplete."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Bytes per element of parameters and activations.

    Attributes:
        trainable_bytes: Trainable parameters, their gradients and optimizer states.
        frozen_bytes: Frozen parameters.
        matrix_bytes: Frozen matrices of layers, if different: 0.5625 in 4 bits with a float32 scale
            per block of 64.
        activation_bytes: Inputs and outputs of matrix products: 2 under mixed precision.
        optimizer_states: Optimizer states per trainable parameter: AdamW's two moments.
        checkpointing: Whether activations inside a layer are recomputed in the backward pass.
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
        """Whether matrix products use copies in lower precision."""
        return self.activation_bytes < self.trainable_bytes


def storage(run: Run, precision: str) -> Storage:
    """Storage of a run.

    Args:
        run: The run.
        precision: Precision that its trainer uses.
    """
    return Storage(
        frozen_bytes=4 if run.optim.frozen_dtype == "float32" else 2,
        matrix_bytes=0.5625 if run.optim.frozen_dtype == "nf4" else None,
        activation_bytes=2 if "mixed" in precision or "16" in precision else 4,
        checkpointing=run.trainer.activation_checkpointing,
    )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the peak of a training step, at the end of the forward pass.

    Attributes:
        weights: All parameters, with separate rows, adapters and half-precision copies.
        gradients: Gradients of trainable parameters.
        optimizer: Optimizer states.
        activations: Activations saved by autograd.
        working: Temporary memory beyond these.
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
    """Predicted memory of a training step, as described in the module docstring.

    Args:
        shape: Sizes of the model.
        plan: Parameters to train.
        num_tokens: Tokens of a micro-batch with padding: examples times the longest, or the packed
            tokens.
        num_answers: Tokens among them whose logits are computed.
        storage: Bytes per element.
    """
    trainable = shape.num_trainable(plan)
    inside = trainable if plan.lora is None and plan.heads is None else 0
    if plan.heads is not None and plan.rest:  # HeadLinear keeps the full frozen matrix
        inside = shape.num_parameters - shape.num_qkv
    frozen = shape.num_parameters - inside
    layers = [_saved(shape, plan, b, storage) for b in blocks(shape, plan) if b.in_graph]
    one_layer = 3 * shape.intermediate * storage.activation_bytes
    if storage.checkpointing:
        one_layer += max(layers)
        layers = [shape.hidden * FLOAT32_BYTES for _ in layers]
    saved = num_tokens * (sum(layers) + _norm(shape.hidden, True, plan.rest))
    saved += num_answers * _inputs_saved([output_layer(shape, plan)], storage)
    logits = num_answers * shape.vocab * FLOAT32_BYTES
    matrix = shape.vocab * shape.hidden * storage.trainable_bytes * plan.rest
    at_the_end = matrix * (3 if shape.tied else 1) - saved
    weights = trainable * storage.trainable_bytes + frozen * storage.frozen_bytes
    if storage.matrix_bytes is not None:  # only if no full matrix trains
        in_layers = shape.num_matmul - shape.vocab * shape.hidden
        weights += round(in_layers * (storage.matrix_bytes - storage.frozen_bytes))
    shards = storage.shards
    copies, gathered = _weight_copies(shape, plan, storage), 0
    if shards > 1:  # copies live as long as gathered layers: the current and the next
        copies, gathered = 0, 2 * _largest_unit(shape) * storage.activation_bytes
    return Memory(
        weights=math.ceil(weights / shards) + copies,
        gradients=math.ceil(trainable * storage.trainable_bytes / shards),
        optimizer=math.ceil(trainable * storage.trainable_bytes / shards)
        * storage.optimizer_states,
        activations=saved,
        working=max(3 * logits, logits + matrix, num_tokens * one_layer, at_the_end) + gathered,
    )


def _largest_unit(shape: ModelShape) -> int:
    """Largest number of parameters that FSDP gathers at once: a layer or the embedding."""
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
    """Largest number of examples of `length` tokens with a predicted peak within `budget` bytes.

    Args:
        shape: Sizes of the model.
        plan: Parameters to train.
        length: Tokens of the longest example.
        answer_share: Share of the tokens whose logits are computed, in [0, 1].
        budget: Usable memory in bytes.
        storage: Bytes per element.

    Raises:
        ValueError: If not even one example fits; one sentence with remedies.
    """

    def peak(size: int) -> int:
        tokens = size * length
        return peak_memory(shape, plan, tokens, math.ceil(answer_share * tokens), storage).total

    if peak(1) > budget:
        raise ValueError(_too_large(peak(0), peak(1), budget, length))
    fits, too_many = 1, 2
    while peak(too_many) <= budget:
        fits, too_many = too_many, 2 * too_many
    return bisect_right(range(fits, too_many), budget, key=peak) + fits - 1


def _saved(shape: ModelShape, plan: TrainingPlan, block: Block, storage: Storage) -> int:
    """Bytes per token that autograd saves of one layer."""
    m, g, size = block.linears, shape.geometry, storage.activation_bytes
    queries, keys = m["q_proj"].outputs, m["k_proj"].outputs
    middle = m["gate_proj"].passes_gradient
    saved = _norm(shape.hidden, block.passes_gradient, plan.rest)
    saved += _inputs_saved([m["q_proj"], m["k_proj"], m["v_proj"]], storage)
    if shape.head_norms:
        saved += _norm(queries, block.query_gradient, plan.rest, g.num_heads)
        saved += _norm(keys, block.key_gradient, plan.rest, g.num_kv_heads)
    if block.attention_gradient:
        saved += size * 2 * (queries + keys) + FLOAT32_BYTES * g.num_heads
    # The output of attention is saved already, but peft converts it for an adapter.
    if not block.attention_gradient or (storage.mixed and m["o_proj"].rank):
        saved += _inputs_saved([m["o_proj"]], storage)
    saved += _norm(shape.hidden, middle, plan.rest)
    saved += _inputs_saved([m["gate_proj"], m["up_proj"]], storage)
    if m["down_proj"].passes_gradient:
        saved += size * 3 * shape.intermediate
    saved += _inputs_saved([m["down_proj"]], storage)
    if shape.post_norms:
        saved += _norm(shape.hidden, middle, plan.rest)
        saved += _norm(shape.hidden, middle or m["down_proj"].trains, plan.rest)
    return saved + size * sum(linear.rank for linear in m.values())


def _norm(width: int, passes_gradient: bool, trains: bool, num_heads: int = 1) -> int:
    """Bytes saved by an RMS norm: input, scales, and the normalized input for its weight."""
    return FLOAT32_BYTES * ((width + num_heads) * passes_gradient + width * trains)


def _inputs_saved(linears: Iterable[Linear], storage: Storage) -> int:
    """Bytes of a shared input that trainable linear layers save."""
    training = [linear for linear in linears if linear.trains]
    if not training:
        return 0
    width = training[0].inputs
    if not storage.mixed:
        return width * storage.activation_bytes
    copies = sum(not linear.separate_rows for linear in training)
    shared = any(
        linear.separate_rows for linear in training
    )  # HeadLinear saves the input in float32
    return width * (copies * storage.activation_bytes + shared * FLOAT32_BYTES)


def _weight_copies(shape: ModelShape, plan: TrainingPlan, storage: Storage) -> int:
    """Bytes of half-precision matrices that mixed precision keeps until the backward pass."""
    if not storage.mixed:
        return 0
    layers = [list(block.linears.values()) for block in blocks(shape, plan)]
    layers.append([output_layer(shape, plan)])
    copies = [sum(_copy(linear, storage) for linear in layer) for layer in layers]
    return max(copies) if storage.checkpointing else sum(copies)


def _copy(linear: Linear, storage: Storage) -> int:
    """Bytes of half-precision copies of a layer's weights; HeadLinear needs none."""
    stored = storage.trainable_bytes if linear.num_rows else storage.frozen_bytes
    needed = linear.passes_gradient or linear.num_rows > 0
    copied = needed and not linear.separate_rows and storage.activation_bytes < stored
    adapter = linear.rank * (linear.inputs + linear.outputs)
    return storage.activation_bytes * (linear.inputs * linear.outputs * copied + adapter)


def _too_large(fixed: int, one_row: int, budget: int, length: int) -> str:
    """Sentence on what does not fit, with remedies."""
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
