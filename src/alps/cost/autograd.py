"""The backward pass under a training plan, layer by layer.

Autograd goes from the loss down to the lowest trainable parameter. Three properties of each linear
layer determine FLOPs and memory: whether its input needs a gradient, which of its rows train, and
whether it has an adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from alps.cost.shape import ModelShape
from alps.models.architecture import QKV
from alps.models.training_plan import TrainingPlan


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear layer under a plan; FLOPs are per token.

    Attributes:
        inputs: Input width.
        outputs: Output width.
        num_rows: Trainable rows (outputs).
        separate_rows: Whether these rows are a parameter beside a frozen matrix (`HeadLinear`).
        rank: Rank of the adapter, or 0.
        passes_gradient: Whether its input needs a gradient.
    """

    inputs: int
    outputs: int
    num_rows: int = 0
    separate_rows: bool = False
    rank: int = 0
    passes_gradient: bool

    @property
    def trains(self) -> bool:
        """Whether any parameter trains; if so, the input is saved for the backward pass."""
        return self.num_rows > 0 or self.rank > 0

    @property
    def forward(self) -> int:
        """FLOPs of the forward pass."""
        return 2 * self.inputs * self.outputs + 2 * self.rank * (self.inputs + self.outputs)

    @property
    def backward_inputs(self) -> int:
        """FLOPs of input gradients; an adapter needs those between its matrices in any case."""
        between = 2 * self.rank * self.outputs
        below = 2 * self.inputs * (self.outputs + self.rank)
        return between + below * self.passes_gradient

    @property
    def backward_weights(self) -> int:
        """FLOPs of parameter gradients."""
        return 2 * self.inputs * self.num_rows + 2 * self.rank * (self.inputs + self.outputs)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A transformer layer under a plan.

    Attributes:
        linears: Linear layers by name, in forward order.
        passes_gradient: Whether the input needs a gradient.
        query_gradient: Whether queries need a gradient.
        key_gradient: Whether keys need a gradient.
        value_gradient: Whether values need a gradient.
    """

    linears: Mapping[str, Linear]
    passes_gradient: bool
    query_gradient: bool
    key_gradient: bool
    value_gradient: bool

    @property
    def in_graph(self) -> bool:
        """Whether the backward pass reaches it."""
        return self.passes_gradient or any(m.trains for m in self.linears.values())

    @property
    def attention_gradient(self) -> bool:
        """Whether the backward pass reaches its attention."""
        return self.query_gradient or self.key_gradient or self.value_gradient

    @property
    def num_attention_gradients(self) -> int:
        """Matrix products in the backward pass of attention."""
        scores = self.query_gradient or self.key_gradient
        return scores + self.query_gradient + self.key_gradient + self.value_gradient


def blocks(shape: ModelShape, plan: TrainingPlan) -> Iterator[Block]:
    """Transformer layers under a plan, in forward order."""
    below = plan.rest  # the embedding trains
    for layer in range(shape.geometry.num_layers):
        block = _block(shape, plan, layer, below)
        yield block
        below = block.in_graph


def output_layer(shape: ModelShape, plan: TrainingPlan) -> Linear:
    """The layer that computes logits; a gradient passes through it even if it is frozen."""
    rows = shape.vocab * plan.rest
    return Linear(inputs=shape.hidden, outputs=shape.vocab, num_rows=rows, passes_gradient=True)


def _block(shape: ModelShape, plan: TrainingPlan, layer: int, below: bool) -> Block:
    rows, found = _trainable_rows(shape, plan, layer), {}

    def add(name: str, gradient: bool) -> bool:
        """Adds a linear layer; returns whether its output needs a gradient."""
        inputs, outputs = shape.matrices[name]
        rank = plan.lora.rank if plan.lora and name in plan.lora.targets else 0
        found[name] = linear = Linear(
            inputs=inputs,
            outputs=outputs,
            num_rows=rows[name],
            separate_rows=plan.heads is not None and name in QKV and rows[name] > 0,
            rank=rank,
            passes_gradient=gradient,
        )
        return gradient or linear.trains

    query, key, value = (add(name, below) for name in QKV)
    middle = add("o_proj", query or key or value) or below  # the residual stream
    gate, up = (add(name, middle) for name in ("gate_proj", "up_proj"))
    add("down_proj", gate or up)
    return Block(
        linears=found,
        passes_gradient=below,
        query_gradient=query,
        key_gradient=key,
        value_gradient=value,
    )


def _trainable_rows(shape: ModelShape, plan: TrainingPlan, layer: int) -> dict[str, int]:
    """Trainable rows of each linear layer; norms are not linear layers."""
    every = {name: outputs for name, (_, outputs) in shape.matrices.items()}
    if plan.heads is not None:
        heads, g = plan.heads.by_layer().get(layer, []), shape.geometry
        keys = len(g.kv_rows(heads, plan.kv_policy))
        chosen = {"q_proj": len(g.query_rows(heads)), "k_proj": keys, "v_proj": keys}
    else:
        chosen = {name: every[name] * (plan.qkv == "all") for name in QKV}
    return {name: chosen.get(name, count * plan.rest) for name, count in every.items()}
