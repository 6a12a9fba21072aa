"""Weights by name: trained parameters on disk, and q, k and v of plain models wherever they are.

Trained parameters are written whole or not at all, in safetensors, and nothing that did not train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alps.base.atomic import replacing
from alps.heads.geometry import Geometry
from alps.models.architecture import read_geometry
from alps.models.qkv import QKV, qkv_names
from alps.runs.result import RunFailed

Source = Path | str | nn.Module
"""A checkpoint (folder, or safetensors file) or a plain model in memory."""


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
    """Names of the tensors in a safetensors file, without reading them.

    Raises:
        RunFailed: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise RunFailed(f"{path} is damaged ({error}); delete it to train again") from None


def geometry_of(source: Source) -> Geometry | None:
    """Shape of a model or a folder's model; a single file doesn't tell."""
    if not isinstance(source, nn.Module):
        return None if Path(source).is_file() else read_geometry(Path(source))
    config: Any = source.config
    heads = config.num_attention_heads
    return Geometry(
        num_layers=config.num_hidden_layers,
        num_heads=heads,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
    )


def in_words(g: Geometry) -> str:
    """A shape, for messages."""
    return f"{g.num_layers} layers of {g.num_heads}/{g.num_kv_heads} heads of {g.head_dim} rows"


def qkv_and_bias_names(layer: int) -> list[str]:
    """Names of the three projections of a layer, then of their biases."""
    weights = qkv_names(layer)
    return weights + [name.replace("weight", "bias") for name in weights]


def qkv_heights(geometry: Geometry) -> Mapping[str, int]:
    """Name of each projection and bias of a model -> how many rows it has."""
    g = geometry
    counts = (g.num_heads, g.num_kv_heads, g.num_kv_heads) * 2
    return {
        name: count * g.head_dim
        for layer in range(g.num_layers)
        for name, count in zip(qkv_and_bias_names(layer), counts, strict=True)
    }


def plain_weight(model: nn.Module, name: str) -> Tensor | None:
    """A weight or bias of a plain linear layer; None where the layer has no bias.

    Raises:
        ValueError: If there is no such layer, or it is quantized, split or wrapped.
    """
    owner, _, kind = name.rpartition(".")
    try:
        module = model.get_submodule(owner)
    except AttributeError:
        raise ValueError(f"the model has no {owner}: it must be a plain Llama-type model") from None
    if not isinstance(module, nn.Linear) or not module.weight.is_floating_point():
        raise ValueError(
            f"{owner} is a {type(module).__name__}, not a plain linear layer: load the plain model"
        )
    return getattr(module, kind)


def read_qkv(source: Source, geometry: Geometry) -> Callable[[int], Mapping[str, Tensor]]:
    """A function: layer -> name -> its q, k and v (rows, d_model) and biases, where there are any.

    Raises:
        ValueError: If the checkpoint is damaged or of another shape, or the model is not plain.
    """
    if not isinstance(source, nn.Module):
        checkpoint = QKV(Path(source), geometry)
        checkpoint.check()

        def read(layer: int) -> Mapping[str, Tensor]:
            groups = [checkpoint.group(layer, g) for g in range(geometry.num_kv_heads)]
            columns = zip(*((*weights, *(biases or ())) for weights, biases in groups), strict=True)
            return dict(zip(qkv_and_bias_names(layer), map(torch.cat, columns), strict=False))

        return read

    def take(layer: int) -> Mapping[str, Tensor]:
        found = {name: plain_weight(source, name) for name in qkv_and_bias_names(layer)}
        return {name: t.detach().cpu() for name, t in found.items() if t is not None}

    return take
