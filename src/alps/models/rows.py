"""Trained rows of q, k and v as a file of their own, independent of the run.

Tensors have the names of the base model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from alps.base.atomic import replacing
from alps.heads.geometry import Geometry
from alps.models.architecture import model_geometry, qkv_heights, read_geometry
from alps.models.head_linear import HeadLinear
from alps.models.qkv import QKVCheckpoint

ROWS_FILE = "heads.safetensors"
FORMAT_VERSION = "1"


class TensorRows(NamedTuple):
    """Rows of one matrix, or entries of one bias: ascending indices, float32 values."""

    indices: Int[Tensor, " rows"]
    values: Float[Tensor, "rows *d_in"]  # noqa: UP037 - no expression


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedRows:
    """Rows of q, k and v that replace those of a base model.

    Attributes:
        parts: Rows by tensor name (`model.layers.3.self_attn.q_proj.weight`).
        geometry: Geometry of the model.
        base_hash: Content hash of the base model, if known.
    """

    parts: Mapping[str, TensorRows]
    geometry: Geometry
    base_hash: str | None = None

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a set of rows must hold at least one row")
        heights = qkv_heights(self.geometry)
        for name, (indices, values) in self.parts.items():
            if name not in heights:
                raise ValueError(f"{name} is no q, k or v of {self.geometry.summary}")
            if values.ndim != 1 + name.endswith("weight") or indices.shape != values.shape[:1]:
                raise ValueError(f"the rows of {name} have another shape than their numbers")
            within = len(indices) and indices[0] >= 0 and indices[-1] < heights[name]
            if not within or not (indices[1:] > indices[:-1]).all():
                raise ValueError(f"the numbers of {name} must ascend from 0 to {heights[name] - 1}")

    def height(self, name: str) -> int:
        """Number of rows of the full matrix."""
        return qkv_heights(self.geometry)[name]

    def write(self, path: Path) -> None:
        """Writes safetensors atomically: `<name>.index` and `<name>.rows` for each tensor.

        The metadata have the format version, the geometry and the hash of the base.
        """
        facts = {"format_version": FORMAT_VERSION, "geometry": json.dumps(asdict(self.geometry))}
        if self.base_hash is not None:
            facts["base_hash"] = self.base_hash
        tensors = {f"{n}.index": p.indices.long() for n, p in self.parts.items()}
        tensors |= {f"{n}.rows": p.values.float() for n, p in self.parts.items()}
        with replacing(path) as temporary:
            save_file({n: t.cpu().contiguous() for n, t in tensors.items()}, temporary, facts)

    @classmethod
    def read(cls, path: Path) -> TrainedRows:
        """Reads a file of `write`.

        Args:
            path: The file, or a folder with `heads.safetensors`.

        Raises:
            ValueError: If the file is missing, damaged or of another version.
        """
        path = path / ROWS_FILE if path.is_dir() else path
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read as a file of rows ({error})") from None
        if facts.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{path} is no file of rows of format {FORMAT_VERSION}: "
                "write it with `alps export run=KEY format=rows to=FOLDER`"
            )
        names = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
        try:
            parts = {
                n: TensorRows(tensors[n + ".index"].long(), tensors[n + ".rows"]) for n in names
            }
            geometry = Geometry(**json.loads(facts["geometry"]))
            return cls(parts=parts, geometry=geometry, base_hash=facts.get("base_hash"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no set of rows: {error}") from None


def rows_of(
    model: nn.Module, base_hash: str | None = None, values: Mapping[str, Tensor] | None = None
) -> TrainedRows:
    """The trained rows of a model to which a plan with heads was applied.

    Args:
        model: The model.
        base_hash: Fingerprint of the base model's weights.
        values: Its trainable parameters by name, if those in the model are sharded.

    Raises:
        ValueError: If no rows are trainable.
    """
    values = dict(model.named_parameters()) if values is None else values
    parts = {}
    for name, module in model.named_modules():
        if isinstance(module, HeadLinear):
            for kind, parameter in (("weight", "rows"), ("bias", "row_bias")):
                trained = values.get(f"{name}.{parameter}")
                if trained is not None:
                    copy = trained.detach().float().cpu().clone()
                    parts[f"{name}.{kind}"] = TensorRows(module.index.cpu().clone(), copy)
    if not parts:
        raise ValueError("the model has no trained rows: apply a plan with heads to it first")
    return TrainedRows(parts=parts, geometry=model_geometry(model), base_hash=base_hash)


def base_rows(rows: TrainedRows, base: Path) -> Mapping[str, Tensor]:
    """The base model's values of the rows in `rows`, in float32; shapes as in `rows.parts`.

    Args:
        rows: Trained rows.
        base: Folder of the base model, or one safetensors file.

    Raises:
        ValueError: If the base lacks a tensor, is damaged or has another shape.
    """
    if base.is_dir() and (geometry := read_geometry(base)) != rows.geometry:
        raise ValueError(
            f"the rows are of {rows.geometry.summary}, the model has {geometry.summary}"
        )
    checkpoint = QKVCheckpoint(base, rows.geometry)
    checkpoint.check()
    values = {}
    for layer in sorted({int(name.split(".")[2]) for name in rows.parts}):
        for name, tensor in checkpoint.layer(layer).items():
            if part := rows.parts.get(name):
                wanted = (len(tensor), *part.values.shape[1:])
                if (found := tuple(tensor.shape)) != wanted:
                    raise ValueError(
                        f"{name} has shape {found} in the model, the rows need {wanted}"
                    )
                values[name] = tensor[part.indices].float()
    if missing := rows.parts.keys() - values.keys():
        raise ValueError(f"{min(missing)} is missing in the base")
    return values
