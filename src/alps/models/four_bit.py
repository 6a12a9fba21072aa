"""Frozen matrices kept in 4 bits, as in QLoRA: NF4 of bitsandbytes, where that is installed.

Chosen rows stay a float32 parameter of their own, so nothing that trains is ever rounded.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# It warns of optional kernels wherever it is imported, which peft does if it is installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def is_packed(weight: Tensor) -> bool:
    """Whether a weight is kept in 4 bits by bitsandbytes, here or by transformers."""
    return getattr(weight, "quant_state", None) is not None


def product(
    x: Float[Tensor, "... d_in"], weight: Tensor, bias: Float[Tensor, " d_out"] | None
) -> Float[Tensor, "... d_out"]:
    """`x W^T + b` of a packed W, whose gradient reaches x only."""
    import bitsandbytes

    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    bias = None if bias is None else bias.to(x.dtype)
    return bitsandbytes.matmul_4bit(x, weight.t(), quant_state=weight.quant_state, bias=bias)  # pyright: ignore


def unpacked(weight: Tensor) -> Tensor:
    """A weight as plain numbers, whoever quantized it; a plain one as it is."""
    if is_packed(weight):
        from bitsandbytes.functional import dequantize_4bit

        packed: Any = weight
        if getattr(packed.quant_state, "packing_format_for_cpu", False):
            packed = packed.cpu()  # takes back a layout for inference, in place
        return dequantize_4bit(packed.data, packed.quant_state)
    quantized: Any = weight.detach()
    return quantized.dequantize() if type(quantized) is not Tensor else quantized


def pack(weight: Tensor) -> nn.Parameter:
    """A frozen weight in NF4: blocks of 64 numbers with one float32 scale each (4.5 bits)."""
    import bitsandbytes

    numbers = weight.detach().to(torch.bfloat16)  # what it becomes again, like all else frozen
    library: Any = bitsandbytes.nn  # its types are not exported
    packed = library.Params4bit(
        numbers, requires_grad=False, quant_type="nf4", compress_statistics=False
    )
    return packed.to(weight.device)  # this is what packs it


class PackedLinear(nn.Module):
    """A frozen linear layer in 4 bits."""

    def __init__(self, linear: nn.Linear):
        """Packs the weight of `linear`."""
        super().__init__()
        self.weight, self.bias = pack(linear.weight), linear.bias

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """The product with the packed weight."""
        return product(x, self.weight, self.bias)


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """An ordinary layer with copies of a weight, unpacked if need be, and a bias."""
    height, width = weight.shape
    linear = nn.Linear(width, height, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear
