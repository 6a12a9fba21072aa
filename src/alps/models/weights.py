"""Trained parameters of a model as a safetensors file; frozen ones are not in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alps.base.atomic import replacing
from alps.runs.result import RunFailed


def save_trained(trained: Mapping[str, Tensor], path: Path) -> None:
    """Writes trained parameters under their names in the model, atomically."""
    with replacing(path) as temporary:
        save_file({n: t.cpu().contiguous() for n, t in trained.items()}, temporary)


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
