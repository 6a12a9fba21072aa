"""The loss of a batch: cross entropy of the answer tokens, and of nothing else."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from alps.models.architecture import decoder_of, output_logits

IGNORE = -100
"""Label of positions that no loss sees."""


def answer_loss(
    model: nn.Module,
    input_ids: Int[Tensor, "rows length"],
    labels: Int[Tensor, "rows length"],
    position_ids: Int[Tensor, "rows length"] | None = None,
    lengths: Sequence[int] | None = None,
) -> Float[Tensor, ""]:
    """Sum of the negative log-likelihoods (nats) of the labelled tokens.

    Rows are padded on the right, so causal attention needs no mask: no real token sees padding. Or
    there is one row of samples packed one behind the other; with `lengths`, none sees another.
    Logits are computed at answer positions only; with none, the loss is a zero that still has a
    gradient.

    Args:
        model: Causal language model, plain or wrapped by peft.
        input_ids: Token ids.
        labels: The same ids where the loss counts, `IGNORE` elsewhere (not shifted).
        position_ids: Positions within the samples of a packed row.
        lengths: Tokens of each sample of a packed row.
    """
    packed = {} if lengths is None else {"position_ids": position_ids, "lengths": lengths}
    hidden = decoder_of(model)(input_ids=input_ids, use_cache=False, **packed).last_hidden_state
    targets = labels[:, 1:]
    answers = targets != IGNORE
    logits = output_logits(model, hidden[:, :-1][answers])
    return F.cross_entropy(logits.float(), targets[answers], reduction="sum")
