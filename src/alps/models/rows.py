"""Trained rows of q, k and v on their own: on disk, written into a base model, and out of it again.

Names are those of the plain model, so that a file of rows means something without its run.
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
from alps.models.qkv import QKV

ROWS_FILE = "heads.safetensors"
FORMAT_VERSION = "1"


class Part(NamedTuple):
    """Some rows of one matrix, or some entries of one bias: ascending numbers, float32 values."""

    numbers: Int[Tensor, " rows"]
    rows: Float[Tensor, "rows *d_in"]  # noqa: UP037 - no expression


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of q, k and v that replace those of a base model.

    Attributes:
        parts: Name in the plain model (`model.layers.3.self_attn.q_proj.weight`) -> its rows.
        geometry: Shape of the model they belong to.
        base_hash: Content of the base model, or None if nobody knows.
    """

    parts: Mapping[str, Part]
    geometry: Geometry
    base_hash: str | None = None

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a set of rows must hold at least one row")
        heights = qkv_heights(self.geometry)
        for name, (numbers, rows) in self.parts.items():
            if name not in heights:
                raise ValueError(f"{name} is no q, k or v of {self.geometry.summary}")
            if rows.ndim != 1 + name.endswith("weight") or numbers.shape != rows.shape[:1]:
                raise ValueError(f"the rows of {name} have another shape than their numbers")
            within = len(numbers) and numbers[0] >= 0 and numbers[-1] < heights[name]
            if not within or not (numbers[1:] > numbers[:-1]).all():
                raise ValueError(f"the numbers of {name} must ascend from 0 to {heights[name] - 1}")

    def height(self, name: str) -> int:
        """Number of rows of the whole matrix."""
        return qkv_heights(self.geometry)[name]

    def write(self, path: Path) -> None:
        """Writes safetensors, whole or not at all: `<name>.index` and `<name>.rows` of each part.

        The metadata hold the format's version, the geometry and the base's hash.
        """
        facts = {"format_version": FORMAT_VERSION, "geometry": json.dumps(asdict(self.geometry))}
        if self.base_hash is not None:
            facts["base_hash"] = self.base_hash
        tensors = {f"{n}.index": p.numbers.long() for n, p in self.parts.items()}
        tensors |= {f"{n}.rows": p.rows.float() for n, p in self.parts.items()}
        with replacing(path) as temporary:
            save_file({n: t.cpu().contiguous() for n, t in tensors.items()}, temporary, facts)

    @classmethod
    def read(cls, path: Path) -> Rows:
        """Reads what `write` wrote.

        Args:
            path: The file, or a folder with `heads.safetensors`.

        Raises:
            ValueError: If there is no such file, it is damaged or of another version.
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
            parts = {n: Part(tensors[n + ".index"].long(), tensors[n + ".rows"]) for n in names}
            geometry = Geometry(**json.loads(facts["geometry"]))
            return cls(parts=parts, geometry=geometry, base_hash=facts.get("base_hash"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no set of rows: {error}") from None


def rows_of(model: nn.Module, base_hash: str | None = None) -> Rows:
    """The trained rows of a model to which a plan with heads was applied; not the base's copy.

    Raises:
        ValueError: If no rows of it train.
    """
    parts = {}
    for name, module in model.named_modules():
        if isinstance(module, HeadLinear):
            numbers = module.index.cpu().clone()
            parts[f"{name}.weight"] = Part(numbers, module.rows.detach().float().cpu().clone())
            if module.row_bias is not None:
                parts[f"{name}.bias"] = Part(
                    numbers, module.row_bias.detach().float().cpu().clone()
                )
    if not parts:
        raise ValueError("the model has no trained rows: apply a plan with heads to it first")
    return Rows(parts=parts, geometry=model_geometry(model), base_hash=base_hash)


def base_rows(rows: Rows, base: Path) -> Mapping[str, Tensor]:
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
    checkpoint = QKV(base, rows.geometry)
    checkpoint.check()
    values = {}
    for layer in sorted({int(name.split(".")[2]) for name in rows.parts}):
        for name, tensor in checkpoint.layer(layer).items():
            if part := rows.parts.get(name):
                wanted = (len(tensor), *part.rows.shape[1:])
                if (found := tuple(tensor.shape)) != wanted:
                    raise ValueError(
                        f"{name} has shape {found} in the model, the rows need {wanted}"
                    )
                values[name] = tensor[part.numbers].float()
    if missing := rows.parts.keys() - values.keys():
        raise ValueError(f"{min(missing)} is missing in the base")
    return values
