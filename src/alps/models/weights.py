"""Trained parameters on disk: only what trained, in safetensors, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from alps.models.apply import merge
from alps.models.load import Tokenizer
from alps.results import RunFailed, replacing


def save_trained(model: nn.Module, path: Path) -> None:
    """Writes every parameter with a gradient under its name in the model."""
    trained = {
        n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad
    }
    with replacing(path) as temporary:
        save_file(trained, temporary)


@torch.no_grad()
def load_trained(model: nn.Module, path: Path) -> None:
    """Copies the saved parameters into a model to which the same plan was applied.

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


def names_in(path: Path) -> set[str]:
    """Names of the tensors in a safetensors file, without reading them."""
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


def export_model(model: nn.Module, tokenizer: Tokenizer, to: Path) -> None:
    """Writes the merged model as a folder that plain transformers loads.

    Raises:
        ValueError: If the folder exists.
    """
    if to.exists():
        raise ValueError(f"{to} exists already; nothing is overwritten: choose another folder")
    merged = merge(model)
    assert isinstance(merged, PreTrainedModel)
    temporary = to.with_name(f"{to.name}.tmp")
    merged.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    temporary.rename(to)
