"""Frozen weights quantized to 4 bits as in QLoRA: NF4 of bitsandbytes, if installed.

Chosen rows are a separate float32 parameter, so that no trainable weight is rounded.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# It logs warnings about optional kernels on import, and peft imports it if installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def is_quantized(weight: Tensor) -> bool:
    """Whether a weight is quantized to 4 bits by bitsandbytes, here or by transformers."""
    return getattr(weight, "quant_state", None) is not None


def matmul_4bit(
    x: Float[Tensor, "... d_in"], weight: Tensor, bias: Float[Tensor, " d_out"] | None
) -> Float[Tensor, "... d_out"]:
    """`x W^T + b` of a quantized W, with a gradient for x only."""
    import bitsandbytes

    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    bias = None if bias is None else bias.to(x.dtype)
    return bitsandbytes.matmul_4bit(x, weight.t(), quant_state=weight.quant_state, bias=bias)  # pyright: ignore


def dequantize(weight: Tensor) -> Tensor:
    """A weight in floating point; unchanged if it is not quantized."""
    if is_quantized(weight):
        from bitsandbytes.functional import dequantize_4bit

        stored: Any = weight
        if getattr(stored.quant_state, "packing_format_for_cpu", False):
            stored = stored.cpu()  # undoes a layout for inference, in place
        return dequantize_4bit(stored.data, stored.quant_state)
    quantized: Any = weight.detach()
    return quantized.dequantize() if type(quantized) is not Tensor else quantized


def quantize(weight: Tensor) -> nn.Parameter:
    """A frozen weight in NF4: blocks of 64 with one float32 scale each (4.5 bits per weight)."""
    import bitsandbytes

    values = weight.detach().to(torch.bfloat16)  # the dtype of all frozen weights once dequantized
    library: Any = bitsandbytes.nn  # its types are not exported
    quantized = library.Params4bit(
        values, requires_grad=False, quant_type="nf4", compress_statistics=False
    )
    return quantized.to(weight.device)  # the transfer quantizes it


class QuantizedLinear(nn.Module):
    """A frozen linear layer in 4 bits."""

    def __init__(self, linear: nn.Linear):
        """Quantizes the weight of `linear`."""
        super().__init__()
        self.weight, self.bias = quantize(linear.weight), linear.bias

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """The product with the quantized weight."""
        return matmul_4bit(x, self.weight, self.bias)


def linear_from(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with copies of a weight and a bias."""
    height, width = weight.shape
    linear = nn.Linear(width, height, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear
