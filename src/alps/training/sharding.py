"""Sharding of a partly trainable model over ranks (FSDP2), its weights read shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from alps.models.apply import initial_adapters
from alps.models.architecture import EMBEDDING, OUTPUT, causal_lm, decoder_of
from alps.models.head_linear import HeadLinear
from alps.models.qkv import tensor_files

HALF = MixedPrecisionPolicy(
    param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
)
"""Matrices of linear layers are gathered in bfloat16, as autocast would cast them; their shards,
gradients and optimizer states stay float32."""


def shard(root: nn.Module, model: nn.Module, mesh: DeviceMesh, mixed: bool) -> None:
    """Shards all parameters of `model` over a mesh, in place; frozen ones, too.

    Attention and MLP of a layer are gathered together, embedding and output layer each by itself
    unless they are tied. Norms stay with `root`. Under mixed precision, parameters that autocast
    leaves in float32 (norms, embeddings) are gathered in float32: a sharded training has the
    precision of one that is not.

    Args:
        root: Module whose forward pass contains those of all others.
        model: The model inside it, possibly on the meta device.
        mesh: The ranks.
        mixed: Whether matrix products run under autocast to bfloat16.
    """
    half = HALF if mixed else MixedPrecisionPolicy()
    for layer in decoder_of(model).layers:
        for module in (*_norms(layer.self_attn), *_norms(layer.mlp)):
            fully_shard(module, mesh=mesh)
        fully_shard([layer.self_attn, layer.mlp], mesh=mesh, mp_policy=half)
    lm = causal_lm(model)
    embedding, output = lm.get_input_embeddings(), lm.get_output_embeddings()
    if embedding.weight is not output.weight:
        fully_shard(embedding, mesh=mesh)
        fully_shard(output, mesh=mesh, reshard_after_forward=False, mp_policy=half)
    fully_shard(root, mesh=mesh)


def _norms(module: nn.Module) -> Iterator[nn.Module]:
    """Modules without children whose only parameter is a vector."""
    for child in module.modules():
        own = list(child.parameters())
        if not list(child.children()) and own and all(p.ndim == 1 for p in own):
            yield child


@torch.no_grad()
def load_shards(model: nn.Module, folder: Path, device: torch.device) -> None:
    """Allocates a sharded model's parameters and reads this rank's part of each.

    Args:
        model: A sharded model on the meta device, to which a training plan was applied.
        folder: Folder of the base model.
        device: Device of the parameters.
    """
    buffers = {name: buffer.to(device) for name, buffer in model.named_buffers()}
    model.to_empty(device=device)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    with _Checkpoint(folder) as stored:
        for name, module in causal_lm(model).named_modules():
            name = name.replace(".base_layer", "")
            for kind, parameter in module.named_parameters(recurse=False):
                source, rows = f"{name}.{kind}", None
                if isinstance(module, HeadLinear) and kind in ("rows", "row_bias"):
                    source = f"{name}.{'weight' if kind == 'rows' else 'bias'}"
                    rows = module.index.cpu()
                if source in stored:
                    fill(parameter, stored.part(source, rows))
                elif ".lora_" not in source:
                    raise ValueError(f"{folder} has no tensor {source}")
    for parameter, value in initial_adapters(model):
        fill(parameter, value.__getitem__)


def fill(target: Tensor, part: Callable[[slice], Tensor]) -> None:
    """Sets a tensor, or this rank's shard of one.

    Args:
        target: A plain tensor, or one that is sharded by rows.
        part: The rows of a slice of the full tensor.
    """
    if not isinstance(target, DTensor):
        target.copy_(part(slice(None)))
        return
    local, mesh = target.to_local(), target.device_mesh
    size = -(-target.shape[0] // mesh.size())  # as torch.chunk cuts
    start = min(size * mesh.get_local_rank(), target.shape[0])
    assert len(local) == max(0, min(size, target.shape[0] - start))
    if len(local):
        local.copy_(part(slice(start, start + len(local))))


class _Checkpoint:
    """Parts of the tensors in a folder of safetensors files."""

    def __init__(self, folder: Path):
        """Opens each file when one of its tensors is read first."""
        self._files = dict(tensor_files(folder))
        self._open: dict[Path, Any] = {}

    def __enter__(self) -> _Checkpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.clear()

    def __contains__(self, name: str) -> bool:
        return self._stored_name(name) is not None

    def part(self, name: str, rows: Tensor | None) -> Callable[[slice], Tensor]:
        """Reads a slice of a tensor, or of some of its rows."""
        stored = self._stored_name(name)
        assert stored is not None
        path = self._files[stored]
        if path not in self._open:
            self._open[path] = safe_open(path, framework="pt")
        tensor = self._open[path].get_slice(stored)
        if rows is None:
            return lambda where: tensor[where]
        return lambda where: tensor[:][rows[where]]

    def _stored_name(self, name: str) -> str | None:
        tied = {OUTPUT: EMBEDDING}
        return next((n for n in (name, tied.get(name)) if n in self._files), None)


def is_sharded(model: nn.Module) -> bool:
    """Whether the parameters of a model are sharded."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def trained_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters by name; of a sharded model their full values, on rank 0's CPU only.

    Every rank of a sharded model must call it.
    """
    trained = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        value = parameter.detach()
        if isinstance(value, DTensor):
            value = value.full_tensor()
            if dist.get_rank() != 0:
                continue
        trained[name] = value.cpu()
    return trained


@torch.no_grad()
def gather(model: nn.Module, empty: nn.Module) -> nn.Module:
    """The full model on this rank's device; every rank must call it.

    Args:
        model: A sharded model.
        empty: The same model on the meta device, with the same plan applied.
    """
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    empty.to_empty(device=next(iter(buffers.values())).device)
    causal_lm(empty).tie_weights()  # allocation separates tied parameters
    for name, buffer in empty.named_buffers():
        buffer.copy_(buffers[name])
    for name, parameter in empty.named_parameters():
        value = parameters[name]
        assert isinstance(value, DTensor)
        parameter.copy_(value.full_tensor())
    return empty
