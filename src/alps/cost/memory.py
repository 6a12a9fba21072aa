"""Predicted memory of a training on one device, and the micro-batch size that fits.

Notation: T tokens of a micro-batch (with padding), A answer tokens among them, d the width of the
residual stream, q and k the widths of queries and keys, f the intermediate width of the MLP. The
prediction includes:

- In full precision and with all parameters training, 6d + 2q + 2k + 4f saved elements per token and
  layer: input, normalized input and output of two norms (6d); queries, keys, values and output of
  fused attention (2q + 2k); gate, its activation, up, and their product (4f). Norms and softmax add
  one element per norm and head. With packed examples the output projection saves its input, the
  concatenated outputs of attention, besides (q).
- In layers with frozen weights that a gradient passes, 2d + 2q + 2k + 3f: inputs of frozen linear
  layers are not saved. Trainable heads or adapters on q, k and v add d.
- Nothing below the lowest layer with trainable parameters; in that layer, nothing for the first
  norm.
- With activation checkpointing, only the input of each layer in the backward pass.
- Gradients throughout the step, as with several micro-batches. (With one, Lightning drops those of
  the last step after the forward pass, which is the peak then.)
- Temporarily, the largest of: log-probabilities with their gradient and that of the logits, 3 A
  vocab elements in float32 (of one chunk, if the loss is computed in chunks); the gradients of the
  output matrix and of the logits; 3f elements per token in the MLP of the layer in its backward
  pass (with checkpointing, plus the saved elements of the layer). At the end, with all else freed,
  the gradient of the embedding; of tied embeddings three times: from the output, from the input,
  and their sum.
- DDP: gradients are views of its buckets, so there is no second copy of them, except at the start
  of the second step, when it allocates buckets in the order of the backward pass before the first
  ones are freed.
- FSDP: a share of weights, gradients and optimizer states. Norms and tied embeddings stay gathered
  throughout (`training.sharding`), an output matrix of its own from the loss on; of the layers the
  current one and a buffer of that size. In the backward pass, the gradients of a layer before and
  in reduction, and that of tied embeddings, which is reduced last. At the end, of an embedding that
  is not tied, its gradient twice and the gathered matrix.

Under mixed precision the residual stream and norms stay in float32; matrix products save
half-precision copies of their inputs (one each for q, k and v) and of weights that a gradient
passes. FSDP gathers layers in half precision instead.

On a GPU this is the memory of tensors, as of `torch.cuda.max_memory_allocated`. On a CPU it is the
resident memory of the process, with `PROGRAM_BYTES` and what glibc's heap cannot reuse
(`HEAP_SHARE`).

Excluded: attention scores without fused attention, library workspaces and, on a GPU, fragmentation
and the CUDA context (a few hundred MB). `micro_batch.USABLE_MEMORY` leaves space for them. AdamW
is fused or takes one parameter after the other; both need less than the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from alps.cost.autograd import Block, Linear, blocks, output_layer
from alps.cost.shape import ModelShape
from alps.cost.storage import FLOAT32, FLOAT32_BYTES, Storage
from alps.models.training_plan import TrainingPlan

PROGRAM_BYTES = 590 * 2**20
"""Resident memory of a process before it reads weights: Python, its packages, tokenizer. Measured:
584 to 590 MiB, 620 with FSDP's packages."""

HEAP_SHARE = 0.5
"""Free blocks that stay resident in glibc's heap, as a share of the blocks that a step takes from
it and gives back. `posix_memalign` of glibc before 2.38, which torch calls, finds no room for a
block in the hole that one of the same size left. Measured: 0.4 to 0.65, and 0 if every block is
mapped by itself (benchmarks/memory.py)."""

HEAP_BLOCK_BYTES = 32 * 2**20
"""Larger blocks are never part of the heap: glibc maps them, and unmaps them when freed."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the peak of a training step, around the end of the forward pass.

    Attributes:
        weights: All parameters, with separate rows, adapters and half-precision copies.
        gradients: Gradients of trainable parameters.
        optimizer: Optimizer states.
        activations: Activations saved by autograd.
        working: Temporary memory beyond these.
        program: The process itself, if its resident memory is predicted.
        heap: Free blocks of the heap, likewise.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    working: int
    program: int = 0
    heap: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        tensors = self.weights + self.gradients + self.optimizer + self.activations + self.working
        return tensors + self.program + self.heap


def peak_memory(
    shape: ModelShape,
    plan: TrainingPlan,
    num_tokens: int,
    num_answers: int,
    storage: Storage = FLOAT32,
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
    at_once = min(num_answers, storage.loss_chunk or num_answers)
    logits = at_once * shape.vocab * FLOAT32_BYTES
    matrix = shape.vocab * shape.hidden * storage.trainable_bytes * plan.rest
    at_the_end = matrix * (3 if shape.tied or storage.shards > 1 else 1) - saved
    weights = trainable * storage.trainable_bytes + frozen * storage.frozen_bytes
    if storage.matrix_bytes is not None:  # only if no full matrix trains
        in_layers = shape.num_matmul - shape.vocab * shape.hidden
        weights += round(in_layers * (storage.matrix_bytes - storage.frozen_bytes))
    shards = storage.shards
    gradients = math.ceil(trainable * storage.trainable_bytes / shards)
    new_buckets = gradients * storage.buckets - saved
    gathered = _Gathered.of(shape, plan, storage) if shards > 1 else _Gathered()
    layer = num_tokens * one_layer + gathered.unreduced
    working = max(3 * logits, logits + matrix, layer, at_the_end, new_buckets)
    return Memory(
        weights=math.ceil(weights / shards)
        + (_weight_copies(shape, plan, storage) if shards == 1 else 0),
        gradients=gradients,
        optimizer=gradients * storage.optimizer_states,
        activations=saved,
        working=working + gathered.root + 2 * gathered.layer,
        program=PROGRAM_BYTES * storage.resident,
        heap=_free_blocks(shape, num_tokens, sum(layers), gathered, storage),
    )


@dataclass(frozen=True, kw_only=True)
class _Gathered:
    """Bytes that FSDP gathers, besides the shards.

    Attributes:
        root: Gathered throughout the backward pass.
        layer: Gathered of one layer.
        layer_gradients: Gradients of one layer and their copy in float32 to be reduced.
        root_gradients: Gradient of tied embeddings, which is reduced at the end.
    """

    root: int = 0
    layer: int = 0
    layer_gradients: int = 0
    root_gradients: int = 0

    @classmethod
    def of(cls, shape: ModelShape, plan: TrainingPlan, storage: Storage) -> _Gathered:
        """Sizes under the groups of `training.sharding.shard`."""
        embedding, size = shape.vocab * shape.hidden, storage.activation_bytes
        # Tied embeddings are gathered in float32; autocast copies them for the output layer.
        root = embedding * (FLOAT32_BYTES + size * storage.mixed if shape.tied else size)
        layer = (shape.num_matmul - embedding) // shape.geometry.num_layers
        rows = [_num_rows(block, separate=True) for block in blocks(shape, plan)]
        trainable = max(_num_rows(block) for block in blocks(shape, plan))
        return cls(
            root=root,
            layer=(layer + max(rows)) * size,
            layer_gradients=trainable * (size + FLOAT32_BYTES),
            root_gradients=embedding * FLOAT32_BYTES * (plan.rest and shape.tied),
        )

    @property
    def unreduced(self) -> int:
        """Gradients before reduction in the backward pass of a layer."""
        return self.layer_gradients + self.root_gradients


def _num_rows(block: Block, separate: bool = False) -> int:
    """Trainable parameters of a layer's matrices, or those kept beside a frozen matrix."""
    linears = [m for m in block.linears.values() if m.separate_rows or not separate]
    return sum(m.num_rows * m.inputs + m.rank * (m.inputs + m.outputs) for m in linears)


def _free_blocks(
    shape: ModelShape, num_tokens: int, saved: int, gathered: _Gathered, storage: Storage
) -> int:
    """Bytes of the heap that are resident and free at the peak.

    Args:
        shape: Sizes of the model.
        num_tokens: Tokens of a micro-batch.
        saved: Bytes per token that autograd saves in all layers.
        gathered: What FSDP gathers.
        storage: Bytes per element.
    """
    if not storage.resident:
        return 0
    num_layers, width = shape.geometry.num_layers, num_tokens * storage.activation_bytes
    if width * shape.intermediate > HEAP_BLOCK_BYTES and not storage.checkpointing:
        saved -= min(saved, 3 * shape.intermediate * storage.activation_bytes * num_layers)
    if width * shape.hidden > HEAP_BLOCK_BYTES:
        saved = 0
    pairs = (2 * gathered.layer, gathered.layer_gradients)  # each of two blocks
    passing = num_layers * sum(size for size in pairs if size <= 2 * HEAP_BLOCK_BYTES)
    return round(HEAP_SHARE * (num_tokens * saved + passing))


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
    # The output of attention is saved already, but peft converts it for an adapter, and the
    # outputs of packed examples are concatenated.
    copied = storage.joined or (storage.mixed and m["o_proj"].rank)
    if not block.attention_gradient or copied:
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
