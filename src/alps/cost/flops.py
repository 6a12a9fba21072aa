"""FLOPs of a training step, absolute and relative to full fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alps.cost.autograd import blocks, output_layer
from alps.cost.shape import ModelShape
from alps.models.training_plan import TrainingPlan

ADAMW_FLOPS = 14
"""Per parameter and step: decay 1, moments 3 and 4, denominator 3, update 3."""

FULL = TrainingPlan(qkv="all", rest=True)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Statistics of training batches, without padding.

    Attributes:
        mean_length: Mean number of tokens in an example.
        mean_square_length: Mean of its square, which attention grows with.
        answer_share: Share of the tokens whose logits are computed, in [0, 1].
        tokens_per_step: Tokens in one optimizer step.
    """

    mean_length: float
    mean_square_length: float
    answer_share: float
    tokens_per_step: float

    @classmethod
    def of(cls, lengths: Sequence[int], num_answers: Sequence[int], batch_size: int) -> Workload:
        """Workload of these examples.

        Args:
            lengths: Tokens of each example; at least one example.
            num_answers: Answer tokens of each example.
            batch_size: Examples per optimizer step.
        """
        mean = sum(lengths) / len(lengths)
        return cls(
            mean_length=mean,
            mean_square_length=sum(n * n for n in lengths) / len(lengths),
            answer_share=sum(num_answers) / sum(lengths),
            tokens_per_step=mean * min(batch_size, len(lengths)),
        )

    @property
    def pairs_per_token(self) -> float:
        """Mean number of positions that a token attends to, including itself."""
        return (self.mean_square_length / self.mean_length + 1) / 2


@dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs per token; a multiply-add counts as 2.

    Attributes:
        forward: Forward pass.
        backward_inputs: Gradients of inputs, including those inside attention.
        backward_weights: Gradients of trainable parameters.
        optimizer: AdamW (`ADAMW_FLOPS`), divided by the tokens of a step.
    """

    forward: float
    backward_inputs: float
    backward_weights: float
    optimizer: float

    @property
    def backward(self) -> float:
        """FLOPs of the backward pass."""
        return self.backward_inputs + self.backward_weights

    @property
    def total(self) -> float:
        """FLOPs of the step."""
        return self.forward + self.backward + self.optimizer


def step_flops(shape: ModelShape, plan: TrainingPlan, workload: Workload) -> Flops:
    """FLOPs per token of a training step.

    Included: matrix products (with adapters), causal attention within an example, logits at answer
    positions only, and the optimizer. Excluded: elementwise operations (norms, softmax,
    activations, rotary embedding, clipping), padding, and recomputation by fused attention or
    activation checkpointing.
    """
    forward = inputs = weights = 0.0
    pair = 2 * shape.query_width * workload.pairs_per_token  # one matrix product of attention
    for block in blocks(shape, plan):
        forward += sum(m.forward for m in block.linears.values()) + 2 * pair
        inputs += sum(m.backward_inputs for m in block.linears.values())
        inputs += pair * block.num_attention_gradients
        weights += sum(m.backward_weights for m in block.linears.values())
    head, share = output_layer(shape, plan), workload.answer_share
    return Flops(
        forward=forward + share * head.forward,
        backward_inputs=inputs + share * head.backward_inputs,
        backward_weights=weights + share * head.backward_weights,
        optimizer=ADAMW_FLOPS * shape.num_trainable(plan) / workload.tokens_per_step,
    )


def flops_vs_full(shape: ModelShape, plan: TrainingPlan, workload: Workload) -> float:
    """FLOPs of this plan over those of `method=full` on the same batches.

    Expected ratio of times if time is proportional to FLOPs.
    """
    return step_flops(shape, plan, workload).total / step_flops(shape, FULL, workload).total
