"""Trained parameters of a model as a safetensors file; frozen ones are not in it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from alps.base.atomic import replacing
from alps.runs.result import RunFailed


def save_trained(model: nn.Module, path: Path) -> None:
    """Writes every parameter that requires a gradient under its name in the model, atomically."""
    trained = {
        n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad
    }
    with replacing(path) as temporary:
        save_file(trained, temporary)


@torch.no_grad()
def load_trained(model: nn.Module, path: Path) -> None:
    """Loads saved parameters into a model to which the same plan was applied.

    Raises:
        RunFailed: If the file is damaged or was saved under another plan.
    """
    try:
        saved = load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunFailed(f"{path} is damaged ({error}); delete it to train again") from None
    wanted = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if saved.keys() != wanted.keys():
        raise RunFailed(f"{path} holds other parameters than its run trains; delete it")
    for name, parameter in wanted.items():
        parameter.copy_(saved[name])


def tensor_names(path: Path) -> set[str]:
    """Names of the tensors in a safetensors file; only its header is read.

    Raises:
        RunFailed: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise RunFailed(f"{path} is damaged ({error}); delete it to train again") from None
