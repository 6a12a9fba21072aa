"""Floating-point operations of a training step, and how few of `full`'s a plan needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alps.cost.autograd import blocks, output_layer
from alps.cost.shape import ModelShape
from alps.models.training_plan import TrainingPlan

ADAMW_FLOPS = 14
"""Of one step, for each parameter: decay 1, averages 3 and 4, denominator 3, update 3."""

FULL = TrainingPlan(qkv="all", rest=True)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What the batches of a training look like; padding is not counted.

    Attributes:
        mean_length: Mean number of tokens in a sample.
        mean_square_length: Mean of its square: attention grows with it.
        answer_share: Share of the tokens whose logits are computed, in [0, 1].
        tokens_per_step: Tokens in one optimizer step.
    """

    mean_length: float
    mean_square_length: float
    answer_share: float
    tokens_per_step: float

    @classmethod
    def of(cls, lengths: Sequence[int], num_answers: Sequence[int], batch_size: int) -> Workload:
        """The workload of these samples.

        Args:
            lengths: Tokens of each sample; at least one sample.
            num_answers: Answer tokens of each sample.
            batch_size: Samples in one optimizer step.
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
        """Positions a token attends to, itself included, on average."""
        return (self.mean_square_length / self.mean_length + 1) / 2


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Floating-point operations for each token; a multiplication with its addition counts as 2.

    Attributes:
        forward: Of the forward pass.
        backward_inputs: Of gradients that are passed on, attention's included.
        backward_weights: Of gradients of what trains.
        optimizer: Of AdamW (`ADAMW_FLOPS`), spread over the tokens of a step.
    """

    forward: float
    backward_inputs: float
    backward_weights: float
    optimizer: float

    @property
    def backward(self) -> float:
        """Of the whole backward pass."""
        return self.backward_inputs + self.backward_weights

    @property
    def total(self) -> float:
        """Of the whole step."""
        return self.forward + self.backward + self.optimizer


def step_flops(shape: ModelShape, plan: TrainingPlan, workload: Workload) -> Flops:
    """Operations of a training step, for each token.

    Counted are all matrix products (adapters included), causal attention within a sample, logits at
    answer positions only, and the optimizer. Left out: everything elementwise (norms, softmax,
    activations, rotary embedding, clipping), padding, and what fused attention or activation
    checkpointing computes a second time.
    """
    forward = inputs = weights = 0.0
    pair = 2 * shape.query_width * workload.pairs_per_token  # of one attention product
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
    """Operations of this plan over those of `method=full` on the same batches.

    The share of time that remains if time follows operations; a measured share below it owes the
    difference to something that is not counted.
    """
    return step_flops(shape, plan, workload).total / step_flops(shape, FULL, workload).total
