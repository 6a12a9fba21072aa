"""Reads q, k and v of a local checkpoint, one KV group at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import constants
from safetensors import SafetensorError, safe_open
from torch import Tensor

from alps.heads.geometry import Geometry
from alps.models.architecture import qkv_and_bias_names, qkv_names, text_prefix

INDEX, SINGLE = constants.SAFETENSORS_INDEX_FILE, constants.SAFETENSORS_SINGLE_FILE
DTYPES = ("F64", "F32", "F16", "BF16")
FOREIGN = (".bin", ".gguf", ".pth", ".pt", ".ckpt", ".h5", ".msgpack", ".npz")


class KVGroup(NamedTuple):
    """One KV group in its stored dtype.

    Attributes:
        weights: q of all its heads, k and v; each (rows, d_model).
        biases: Their biases, each (rows,), or None.
    """

    weights: tuple[Tensor, Tensor, Tensor]
    biases: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class QKVCheckpoint:
    """A folder of safetensors (one file, or shards with an index), or one such file.

    Attributes:
        path: The folder or file.
        geometry: Geometry of the model.
    """

    path: Path
    geometry: Geometry

    @cached_property
    def width(self) -> int:
        """d_model."""
        return self._slice(self._names(0)[0]).get_shape()[-1]

    @cached_property
    def has_biases(self) -> bool:
        """Whether the projections have biases."""
        return qkv_and_bias_names(0, text_prefix(self._files))[3] in self._files

    @cached_property
    def dtype(self) -> str:
        """Dtype of q in the first layer, as safetensors names it (F32, BF16, ...)."""
        return self._slice(self._names(0)[0]).get_dtype()

    def check(self) -> None:
        """Checks names, dtypes and shapes of all tensors; reads no weights.

        Raises:
            ValueError: If something is missing, damaged or of another shape.
        """
        g = self.geometry
        for layer in range(g.num_layers):
            counts = (g.num_heads, g.num_kv_heads, g.num_kv_heads) * 2
            for name, count in zip(self._names(layer), counts, strict=False):
                columns = [self.width] if name.endswith("weight") else []
                self._check(name, [count * g.head_dim, *columns])

    def _check(self, name: str, wanted: list[int]) -> None:
        found = self._slice(name)
        if found.get_dtype() not in DTYPES:
            raise ValueError(
                f"{name} in {self.path} is stored as {found.get_dtype()}: "
                f"give the model before quantization, in {', '.join(DTYPES)}"
            )
        if found.get_shape() != wanted:
            raise ValueError(
                f"{name} in {self.path} has shape {found.get_shape()}, not {wanted}: "
                "base and task model must have the same shapes"
            )

    def group(self, layer: int, group: int) -> KVGroup:
        """The heads of one KV group.

        Raises:
            ValueError: If a value is not finite or the file is damaged.
        """
        size, per = self.geometry.head_dim, self.geometry.group_size
        blocks = [slice(group * per * size, (group + 1) * per * size)]
        blocks += [slice(group * size, (group + 1) * size)] * 2
        names = self._names(layer)
        files = {path: self._open(path) for path in {self._path(n) for n in names}}
        found = [
            self._read(files[self._path(name)], name, rows)
            for name, rows in zip(names, blocks * 2, strict=False)
        ]
        q, k, v, *biases = found
        return KVGroup((q, k, v), tuple(biases) or None)

    def layer(self, layer: int) -> Mapping[str, Tensor]:
        """q, k and v of a layer, then their biases, by their names in the language model.

        Raises:
            ValueError: If a value is not finite or the file is damaged.
        """
        groups = [self.group(layer, g) for g in range(self.geometry.num_kv_heads)]
        rows = zip(*((*weights, *(biases or ())) for weights, biases in groups), strict=True)
        return dict(zip(qkv_and_bias_names(layer), map(torch.cat, rows), strict=False))

    def _names(self, layer: int) -> list[str]:
        """Stored names of q, k and v, then those of their biases."""
        names = qkv_and_bias_names if self.has_biases else qkv_names
        return names(layer, text_prefix(self._files))

    def _read(self, file: safe_open, name: str, rows: slice) -> Tensor:
        try:
            tensor = file.get_slice(name)[rows]
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{name} in {self.path} cannot be read ({error})") from None
        if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} in {self.path} holds NaN or infinite values")
        return tensor

    def _slice(self, name: str):
        try:
            return self._open(self._path(name)).get_slice(name)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{name} in {self.path} cannot be read ({error})") from None

    def _open(self, path: Path) -> safe_open:
        """Opens the file anew each time: a memory map keeps every page that was read."""
        try:
            return safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is no readable safetensors file ({error})") from None

    def _path(self, name: str) -> Path:
        try:
            return self._files[name]
        except KeyError:
            raise ValueError(
                f"{self.path} has no tensor {name}: it is no checkpoint of "
                f"{self.geometry.num_layers} layers with separate q, k and v projections"
            ) from None

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        return tensor_files(self.path)


def tensor_files(checkpoint: Path) -> Mapping[str, Path]:
    """The safetensors file of each tensor of a checkpoint, by name.

    Args:
        checkpoint: A folder (one file, or shards with an index), or one such file.

    Raises:
        ValueError: If a file is missing or damaged.
    """
    if checkpoint.is_file():
        return dict.fromkeys(_names_in(checkpoint), checkpoint)
    if (checkpoint / SINGLE).exists():  # before an index, as transformers does
        return dict.fromkeys(_names_in(checkpoint / SINGLE), checkpoint / SINGLE)
    index = checkpoint / INDEX
    if index.exists():
        try:
            where = json.loads(index.read_text())["weight_map"]
            shards = sorted({str(shard) for shard in where.values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} is damaged ({error})") from None
        for shard in shards:
            if not (checkpoint / shard).exists():
                raise ValueError(
                    f"{checkpoint} lacks {shard}, which its index names: the copy is incomplete"
                )
        return {name: checkpoint / shard for name, shard in where.items()}
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        raise ValueError(_foreign(checkpoint))
    return {name: path for path in files for name in _names_in(path)}


def stored_dtypes(checkpoint: Path) -> Mapping[str, str]:
    """Dtype of each tensor of a checkpoint by name, as safetensors names it.

    Raises:
        ValueError: If a file is missing or damaged, or lacks a tensor that the index names.
    """
    found: dict[str, str] = {}
    files = tensor_files(checkpoint)
    for path in sorted(set(files.values())):
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name, where in files.items() if where == path]
                found |= {name: file.get_slice(name).get_dtype() for name in names}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is no readable safetensors file ({error})") from None
    return found


def _names_in(path: Path) -> list[str]:
    if path.suffix != ".safetensors":
        raise ValueError(_foreign(path))
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no readable safetensors file ({error})") from None


def _foreign(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist"
    folder = path if path.is_dir() else path.parent
    files = path.glob("*") if path.is_dir() else [path]
    found = sorted(f.name for f in files if f.suffix in FOREIGN)
    if path.is_dir() and not found:
        return f"{path} holds no safetensors file"
    what = (
        f"holds {', '.join(found[:3])} but no safetensors" if path.is_dir() else "is no safetensors"
    )
    what = f"{path} {what}, the one format that can be read in part"
    if not any(name.endswith((".bin", ".gguf")) for name in found):
        return f"{what}: give a folder that transformers saved"
    # Without the rest, transformers refuses to save what came from a GGUF file.
    gguf = f", gguf_file='{found[0]}'" if found[0].endswith(".gguf") else ""
    plain = "m.hf_quantizer = None; del m.config.quantization_config; " if gguf else ""
    save = f"{plain}m.save_pretrained('{folder}-safetensors')"
    return (
        f'{what}; convert it: python -c "from transformers import AutoModelForCausalLM as M; '
        f"m = M.from_pretrained('{folder}'{gguf}); {save}\""
    )
