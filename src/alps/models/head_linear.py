"""A linear layer with a separate trainable parameter for some of its output rows."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from alps.models.four_bit import dequantize, is_quantized, linear_from, matmul_4bit


class HeadLinear(nn.Module):
    """`y = x W^T + b` with the chosen rows of W replaced by the trainable `rows`.

    W and b are frozen parameters (not buffers, so that FSDP shards them and DDP does not broadcast
    them). Gradients, optimizer state, clipping and checkpoints contain `rows` only: weight decay
    cannot change the other rows.

    The forward pass has two implementations. If W is a dense tensor, `rows` are written into it and
    one matrix product follows, whose backward pass computes the gradient of those rows only.
    Otherwise (quantized, under torch.compile) the reference implementation overwrites the chosen
    output columns by `x rows^T`.

    FSDP gathers W before each pass and frees it afterwards, so that the backward pass finds the
    base model's rows in it; therefore both passes write `rows`.
    """

    index: Tensor

    def __init__(self, linear: nn.Linear, rows: Sequence[int], train_bias: bool = False):
        """Shares the weight of `linear` without a copy.

        Args:
            linear: The layer to replace; its parameters become frozen.
            rows: Output rows that train, ascending, without duplicates.
            train_bias: Whether the biases of those rows train, too.
        """
        super().__init__()
        assert rows and list(rows) == sorted(set(rows)) and rows[-1] < linear.out_features
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight.requires_grad_(False)
        self.bias = linear.bias if linear.bias is None else linear.bias.requires_grad_(False)
        index = torch.tensor(rows, dtype=torch.long)
        if not linear.weight.is_meta:  # the index has values even if the weights come later
            index = index.to(linear.weight.device)
        self.register_buffer("index", index, persistent=False)
        self.rows = nn.Parameter(_trainable(dequantize(linear.weight)[index]))
        chosen_bias = linear.bias is not None and train_bias
        self.row_bias = nn.Parameter(_trainable(linear.bias[index])) if chosen_bias else None

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Output columns of the chosen rows from `rows`, all others from the frozen weight."""
        dense = type(self.weight.data) is Tensor and not is_quantized(self.weight)
        if dense and self.row_bias is None and not torch.compiler.is_compiling():
            return _RowsLinear.apply(x, self.rows, self.weight, self.bias, self.index)  # pyright: ignore
        return self.reference(x)

    def reference(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Reference implementation with ordinary autograd, for any frozen weight."""
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
        frozen = matmul_4bit if is_quantized(self.weight) else F.linear
        y = frozen(x, self.weight, self.bias)
        return y.index_copy(-1, self.index, chosen.to(y.dtype))

    def merged(self) -> nn.Linear:
        """An `nn.Linear` with the trained rows written into a copy of the weight."""
        linear = linear_from(dequantize(self.weight), self.bias)
        _write_rows(linear.weight, self.rows, self.index)
        if self.row_bias is not None:
            with torch.no_grad():
                linear.bias[self.index] = self.row_bias.to(linear.bias.dtype)
        return linear

    def extra_repr(self) -> str:
        """Sizes for `print(model)`."""
        return f"{self.in_features}, {self.out_features}, trainable rows={len(self.index)}"


class _RowsLinear(torch.autograd.Function):
    """A linear layer whose weight gradient is computed for some rows only."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor
    ) -> Tensor:
        """Product with the weight into which `rows` were written."""
        _write_rows(weight, rows, index)
        ctx.save_for_backward(x, rows, weight, index)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Products in the dtype of the incoming gradient, which is lower under autocast."""
        x, rows, weight, index = ctx.saved_tensors
        (grad,) = grads
        x_grad = rows_grad = None
        if ctx.needs_input_grad[0]:
            _write_rows(weight, rows, index)  # FSDP may have gathered it again
            x_grad = (grad @ weight.to(grad.dtype)).to(x.dtype)
        if ctx.needs_input_grad[1]:
            chosen = grad.index_select(-1, index).reshape(-1, len(index))
            inputs = x.to(grad.dtype).reshape(-1, x.shape[-1])
            rows_grad = (chosen.T @ inputs).to(rows.dtype)
        return x_grad, rows_grad, None, None, None


def _write_rows(weight: Tensor, rows: Tensor, index: Tensor) -> None:
    """Writes `rows` into a frozen weight, unseen by autograd, which would refuse the change."""
    weight.data.index_copy_(0, index, rows.data.to(weight.dtype))


def _trainable(chosen: Tensor) -> Tensor:
    """A float32 master copy of half-precision weights; a copy of others."""
    chosen = chosen.detach().clone()
    return chosen.float() if chosen.dtype in (torch.bfloat16, torch.float16) else chosen
