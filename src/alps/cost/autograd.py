"""What autograd has to do under a plan, layer by layer.

It goes down from the loss to the lowest thing that trains and stops there. So each linear layer is
asked three questions: does a gradient pass to its input, which of its rows train, and does it have
an adapter. Operations and memory follow from the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from alps.cost.shape import ModelShape
from alps.models.architecture import QKV
from alps.models.training_plan import TrainingPlan


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear layer under a plan; operations are for each token.

    Attributes:
        inputs: Width of its input.
        outputs: Width of its output.
        num_rows: Rows (outputs) that train.
        by_rows: Whether they are a parameter of their own, beside a frozen matrix (`HeadLinear`).
        rank: Rank of its adapter, or 0.
        passes_gradient: Whether its input needs a gradient.
    """

    inputs: int
    outputs: int
    num_rows: int = 0
    by_rows: bool = False
    rank: int = 0
    passes_gradient: bool

    @property
    def trains(self) -> bool:
        """Whether anything of it trains; then its input is kept for the backward pass."""
        return self.num_rows > 0 or self.rank > 0

    @property
    def forward(self) -> int:
        """Operations of the forward pass."""
        return 2 * self.inputs * self.outputs + 2 * self.rank * (self.inputs + self.outputs)

    @property
    def backward_inputs(self) -> int:
        """Operations of gradients passed on; within an adapter they are needed in any case."""
        between = 2 * self.rank * self.outputs
        below = 2 * self.inputs * (self.outputs + self.rank)
        return between + below * self.passes_gradient

    @property
    def backward_weights(self) -> int:
        """Operations of gradients of what trains."""
        return 2 * self.inputs * self.num_rows + 2 * self.rank * (self.inputs + self.outputs)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A transformer layer under a plan.

    Attributes:
        linears: Its linear layers by name, from the bottom up.
        passes_gradient: Whether its input needs a gradient.
        query_gradient: Whether the queries need one; keys and values likewise.
        key_gradient: Of the keys.
        value_gradient: Of the values.
    """

    linears: Mapping[str, Linear]
    passes_gradient: bool
    query_gradient: bool
    key_gradient: bool
    value_gradient: bool

    @property
    def in_graph(self) -> bool:
        """Whether the backward pass visits it at all."""
        return self.passes_gradient or any(m.trains for m in self.linears.values())

    @property
    def attention_gradient(self) -> bool:
        """Whether the backward pass visits its attention."""
        return self.query_gradient or self.key_gradient or self.value_gradient

    @property
    def num_attention_gradients(self) -> int:
        """Products in the backward pass of attention: of probabilities, queries, keys, values."""
        scores = self.query_gradient or self.key_gradient
        return scores + self.query_gradient + self.key_gradient + self.value_gradient


def blocks(shape: ModelShape, plan: TrainingPlan) -> Iterator[Block]:
    """The layers of the model under a plan, from the bottom up."""
    below = plan.rest  # the embedding trains
    for layer in range(shape.geometry.num_layers):
        block = _block(shape, plan, layer, below)
        yield block
        below = block.in_graph


def output_layer(shape: ModelShape, plan: TrainingPlan) -> Linear:
    """The layer that makes logits: frozen or not, a gradient passes through it."""
    rows = shape.vocab * plan.rest
    return Linear(inputs=shape.hidden, outputs=shape.vocab, num_rows=rows, passes_gradient=True)


def _block(shape: ModelShape, plan: TrainingPlan, layer: int, below: bool) -> Block:
    rows, found = _trainable_rows(shape, plan, layer), {}

    def add(name: str, gradient: bool) -> bool:
        """Whether the output needs a gradient, given whether the input does."""
        inputs, outputs = shape.matrices[name]
        rank = plan.lora.rank if plan.lora and name in plan.lora.targets else 0
        found[name] = linear = Linear(
            inputs=inputs,
            outputs=outputs,
            num_rows=rows[name],
            by_rows=plan.heads is not None and name in QKV and rows[name] > 0,
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
    """Rows of each linear layer that train; norms train with the rest, but multiply nothing."""
    every = {name: outputs for name, (_, outputs) in shape.matrices.items()}
    if plan.heads is not None:
        heads, g = plan.heads.by_layer().get(layer, []), shape.geometry
        keys = len(g.kv_rows(heads, plan.kv_policy))
        chosen = {"q_proj": len(g.query_rows(heads)), "k_proj": keys, "v_proj": keys}
    else:
        chosen = {name: every[name] * (plan.qkv == "all") for name in QKV}
    return {name: chosen.get(name, count * plan.rest) for name, count in every.items()}
