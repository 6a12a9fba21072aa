"""Training loss: cross entropy of the answer tokens."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from alps.models.architecture import decoder_of, output_logits

IGNORE = -100
"""Label of positions without loss."""


def answer_loss(
    model: nn.Module,
    input_ids: Int[Tensor, "batch length"],
    labels: Int[Tensor, "batch length"],
    position_ids: Int[Tensor, "batch length"] | None = None,
    lengths: Sequence[int] | None = None,
    chunk: int | None = None,
) -> Float[Tensor, ""]:
    """Sum of the negative log-likelihoods (nats) of the labelled tokens.

    Sequences are padded on the right, so that causal attention needs no mask. Alternatively, the
    batch is one sequence of concatenated (packed) examples; with `lengths`, each attends to itself
    only. Logits are computed at answer positions only; without any, the loss is 0 and still has a
    gradient.

    Args:
        model: Causal language model, possibly wrapped by peft.
        input_ids: Token ids.
        labels: Token ids at answer positions, `IGNORE` elsewhere (not shifted).
        position_ids: Positions within the examples of a packed sequence.
        lengths: Numbers of tokens of the examples in a packed sequence.
        chunk: Answer tokens whose logits are in memory at once; they are computed again in the
            backward pass. None keeps those of all.
    """
    packed = {} if lengths is None else {"position_ids": position_ids, "lengths": lengths}
    hidden = decoder_of(model)(input_ids=input_ids, use_cache=False, **packed).last_hidden_state
    targets = labels[:, 1:]
    answers = targets != IGNORE
    hidden, targets = hidden[:, :-1][answers], targets[answers]
    if chunk is None or len(targets) <= chunk:
        return _cross_entropy(model, hidden, targets)
    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    losses = [checkpoint(_cross_entropy, model, *part, use_reentrant=False) for part in parts]
    return torch.stack(losses).sum()


def _cross_entropy(model: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(output_logits(model, hidden).float(), targets, reduction="sum")
