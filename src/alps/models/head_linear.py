"""A linear layer of which only some output rows train, as a real parameter of their own."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from alps.models.four_bit import is_packed, plain_linear, product, unpacked


class HeadLinear(nn.Module):
    """`y = x W^T + b` with the chosen rows of W replaced by the trainable `rows`.

    W and b are frozen parameters (not buffers, so that sharding shards them and DDP leaves them
    alone). Gradients, optimizer state, clipping and checkpoints see `rows` only: the unchosen rows
    cannot move, whatever the weight decay.

    There are two forms of the forward pass. Where W is a plain tensor in one piece, `rows` are
    written into it first, and one matrix product does the rest; its backward pass computes the
    gradient of those rows and of nothing else. Elsewhere (sharded, quantized, under torch.compile)
    the reference form overwrites the chosen output columns by `x rows^T`.
    """

    index: Tensor

    def __init__(self, linear: nn.Linear, rows: Sequence[int], train_bias: bool = False):
        """Takes over the weight of `linear` without a copy.

        Args:
            linear: The layer to replace; its parameters become frozen.
            rows: Output rows that train, ascending, without repeats.
            train_bias: Whether the bias of those rows trains, too.
        """
        super().__init__()
        assert rows and list(rows) == sorted(set(rows)) and rows[-1] < linear.out_features
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight.requires_grad_(False)
        self.bias = linear.bias if linear.bias is None else linear.bias.requires_grad_(False)
        index = torch.tensor(rows, dtype=torch.long, device=linear.weight.device)
        self.register_buffer("index", index, persistent=False)
        self.rows = nn.Parameter(_trainable(unpacked(linear.weight)[index]))
        chosen_bias = linear.bias is not None and train_bias
        self.row_bias = nn.Parameter(_trainable(linear.bias[index])) if chosen_bias else None

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Output columns of the chosen rows from `rows`, all others from the frozen weight."""
        plain = type(self.weight.data) is Tensor and not is_packed(self.weight)
        if plain and self.row_bias is None and not torch.compiler.is_compiling():
            self._write_rows(self.weight.data)
            return _RowsLinear.apply(x, self.rows, self.weight, self.bias, self.index)  # pyright: ignore
        return self.reference(x)

    def reference(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Plain autograd, with any frozen weight."""
        bias = self.row_bias
        if bias is None and self.bias is not None:
            bias = self.bias[self.index]
        if not torch.is_autocast_enabled(x.device.type):
            bias = None if bias is None else bias.to(x.dtype)
            chosen = F.linear(x, self.rows.to(x.dtype), bias)
        else:
            chosen = F.linear(x, self.rows, bias)
        if len(self.index) == self.out_features:
            return chosen
        frozen = product if is_packed(self.weight) else F.linear
        y = frozen(x, self.weight, self.bias)
        return y.index_copy(-1, self.index, chosen.to(y.dtype))

    def merged(self) -> nn.Linear:
        """A plain linear layer with the trained rows written into a copy of the weight."""
        linear = plain_linear(unpacked(self.weight), self.bias)
        self._write_rows(linear.weight.data)
        if self.row_bias is not None:
            with torch.no_grad():
                linear.bias[self.index] = self.row_bias.to(linear.bias.dtype)
        return linear

    @torch.no_grad()
    def _write_rows(self, weight: Tensor) -> None:
        weight.index_copy_(0, self.index, self.rows.detach().to(weight.dtype))

    def extra_repr(self) -> str:
        """Shape, for `print(model)`."""
        return f"{self.in_features}, {self.out_features}, trainable rows={len(self.index)}"


class _RowsLinear(torch.autograd.Function):
    """A linear layer whose weight gradient is computed for some rows only."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor
    ) -> Tensor:
        """`weight` already holds `rows`, which are here for their gradient."""
        ctx.save_for_backward(x, weight, index)
        ctx.rows_dtype = rows.dtype
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Under autocast the incoming gradient has the lower precision; products follow it."""
        x, weight, index = ctx.saved_tensors
        (grad,) = grads
        x_grad = rows_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = (grad @ weight.to(grad.dtype)).to(x.dtype)
        if ctx.needs_input_grad[1]:
            chosen = grad.index_select(-1, index).reshape(-1, len(index))
            inputs = x.to(grad.dtype).reshape(-1, x.shape[-1])
            rows_grad = (chosen.T @ inputs).to(ctx.rows_dtype)
        return x_grad, rows_grad, None, None, None


def _trainable(chosen: Tensor) -> Tensor:
    """A float32 master copy, also of weights stored in half precision."""
    chosen = chosen.detach().clone()
    return chosen.float() if chosen.dtype in (torch.bfloat16, torch.float16) else chosen
