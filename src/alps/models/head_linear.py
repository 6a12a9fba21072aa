"""A linear layer of which only some output rows train, as a real parameter of their own."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class HeadLinear(nn.Module):
    """`y = x W^T + b` with the chosen rows of W replaced by the trainable `rows`.

    W and b are frozen parameters (not buffers, so that sharding shards them and DDP leaves them
    alone). Gradients, optimizer state, clipping and checkpoints see `rows` only: the unchosen rows
    cannot move, whatever the weight decay.
    """

    index: Tensor

    def __init__(self, linear: nn.Linear, rows: Sequence[int]):
        """Takes over the weight of `linear` without a copy.

        Args:
            linear: The layer to replace; its parameters become frozen.
            rows: Output rows that train, ascending, without repeats.
        """
        super().__init__()
        assert rows and list(rows) == sorted(set(rows)) and rows[-1] < linear.out_features
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight.requires_grad_(False)
        self.bias = linear.bias if linear.bias is None else linear.bias.requires_grad_(False)
        index = torch.tensor(rows, dtype=torch.long, device=linear.weight.device)
        self.register_buffer("index", index, persistent=False)
        self.rows = nn.Parameter(linear.weight.detach()[index].clone())

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """The reference form: overwrite the chosen output columns by `x rows^T`."""
        bias = None if self.bias is None else self.bias[self.index]
        chosen = F.linear(x, self.rows, bias)
        if len(self.index) == self.out_features:
            return chosen
        y = F.linear(x, self.weight, self.bias)
        return y.index_copy(-1, self.index, chosen.to(y.dtype))

    def merged(self) -> nn.Linear:
        """A plain linear layer with the trained rows written into a copy of the weight."""
        linear = nn.Linear(
            self.in_features, self.out_features, bias=self.bias is not None, device="meta"
        )
        weight = self.weight.detach().clone()
        weight[self.index] = self.rows.detach().to(weight.dtype)
        linear.weight = nn.Parameter(weight)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone())
        return linear

    def extra_repr(self) -> str:
        """Shape, for `print(model)`."""
        return f"{self.in_features}, {self.out_features}, trainable rows={len(self.index)}"
