"""Numeric precision of evaluations, the same for the training callback and `alps evaluate`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from alps.models.four_bit import is_quantized
from alps.settings.infrastructure import EvaluationPrecision
from alps.settings.run import Run


def evaluation_precision(run: Run, trained: bool, on_gpu: bool) -> EvaluationPrecision:
    """Precision in which a model of the run is evaluated.

    Args:
        run: The run.
        trained: Whether its trained model is evaluated, or its base model.
        on_gpu: Whether on a GPU.

    Raises:
        ValueError: If `evals.precision` is not possible; one sentence.
    """
    asked, frozen = run.evals.precision, run.optim.frozen_dtype
    if run.evals.backend == "vllm":
        if asked == "tf32":
            raise ValueError(
                "evals.precision=tf32 needs evals.backend=hf: vLLM evaluates in bf16 or in 32"
            )
        return "bf16" if asked == "auto" else asked
    if trained and frozen != "float32":
        if asked in ("32", "tf32"):
            raise ValueError(
                f"evals.precision={asked} is not possible with optim.frozen_dtype={frozen}, whose "
                "run is evaluated as it was trained: use evals.precision=bf16"
            )
        return "bf16"
    tf32 = on_gpu and torch.cuda.is_tf32_supported()
    if asked == "tf32" and not tf32:
        raise ValueError(
            "evals.precision=tf32 needs a GPU with TF32 (Ampere or newer): use evals.precision=32, "
            "bf16 or auto"
        )
    if asked == "auto":
        return "tf32" if tf32 else "32"
    return asked


def bfloat16_copy(model: nn.Module) -> nn.Module:
    """A copy with bfloat16 parameters, for inference.

    Buffers keep their dtype, rotary frequencies among them. Parameters that are in bfloat16 or
    quantized already are shared with `model`, so a mostly frozen model takes little more memory.
    """
    parameters: dict[int, Any] = {}  # tied parameters stay tied
    for parameter in model.parameters():
        shared = is_quantized(parameter)
        parameters[id(parameter)] = parameter if shared else _in_bfloat16(parameter)
    return copy.deepcopy(model, parameters)


def _in_bfloat16(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(torch.bfloat16), parameter.requires_grad)


@contextmanager
def matmul_precision(precision: EvaluationPrecision) -> Iterator[None]:
    """Allows TF32 in products of float32 matrices, or forbids it, and restores the setting."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
