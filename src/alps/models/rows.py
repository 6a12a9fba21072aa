"""Trained rows of q, k and v on their own: on disk, written into a base model, and out of it again.

Names are those of the plain model, so that a file of rows means something without its run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from alps.base.atomic import replacing
from alps.base.hashing import folder_hash
from alps.heads.geometry import Geometry
from alps.models.head_linear import HeadLinear
from alps.models.weights import Source, geometry_of, in_words, plain_weight, qkv_heights, read_qkv

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
                raise ValueError(f"{name} is no q, k or v of {in_words(self.geometry)}")
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
    geometry = geometry_of(model)
    assert geometry is not None
    return Rows(parts=parts, geometry=geometry, base_hash=base_hash)


@torch.no_grad()
def merge(model: nn.Module, rows: Rows, base_hash: str | None = None) -> nn.Module:
    """Writes rows into a plain model, in place and in its own dtype; all of them or none.

    Args:
        model: The base model.
        rows: What to write.
        base_hash: Content of `model`; where given, it must be the one the rows belong to.

    Raises:
        ValueError: If the base or a shape is another one, or rows were merged into it already.
    """
    if hasattr(model, _MERGED):
        raise ValueError("rows were merged into this model already: unmerge them, or compose both")
    if base_hash and rows.base_hash and base_hash != rows.base_hash:
        raise ValueError(
            f"the rows belong to the base {rows.base_hash}, not to {base_hash}: load their own base"
        )
    _put(model, rows, {name: part.rows for name, part in rows.parts.items()})
    setattr(model, _MERGED, {name: part.numbers for name, part in rows.parts.items()})
    return model


@torch.no_grad()
def unmerge(model: nn.Module, rows: Rows, base: Source) -> nn.Module:
    """Puts the base's rows back where `rows` were merged, bit for bit, in place.

    Args:
        model: A model after `merge(model, rows)`.
        rows: What was merged.
        base: Where the rows of the base are read; of a checkpoint nothing else is.

    Raises:
        ValueError: If no rows or others were merged, or the base has another shape.
    """
    merged = getattr(model, _MERGED, None)
    if merged is None:
        raise ValueError("no rows were merged into this model, so there are none to take out")
    same = merged.keys() == rows.parts.keys()
    if not same or not all(torch.equal(merged[n], p.numbers) for n, p in rows.parts.items()):
        raise ValueError("other rows were merged into this model: unmerge with those")
    _put(model, rows, base_rows(rows, base))
    delattr(model, _MERGED)
    return model


def diff(base: Source, changed: Source, base_hash: str | None = None) -> Rows:
    """All rows of q, k and v (weights and biases) whose bits differ, read layer by layer.

    Args:
        base: Checkpoint or plain model.
        changed: Likewise; what differs outside q, k and v is not seen.
        base_hash: Content of the base; by default the hash of its folder or file, if it has one.

    Raises:
        ValueError: If their shapes differ, or nothing of q, k and v does.
    """
    shapes = [g for g in (geometry_of(base), geometry_of(changed)) if g is not None]
    if not shapes:
        raise ValueError(f"neither {base} nor {changed} has a config.json: name a folder with one")
    if shapes[0] != shapes[-1]:
        raise ValueError(f"base has {in_words(shapes[0])}, the changed model {in_words(shapes[1])}")
    before, after = read_qkv(base, shapes[0]), read_qkv(changed, shapes[0])
    parts = {}
    for layer in range(shapes[0].num_layers):
        old, new = before(layer), after(layer)
        if {n: t.shape for n, t in old.items()} != {n: t.shape for n, t in new.items()}:
            raise ValueError(f"base and changed model differ in the shapes of layer {layer}")
        for name, tensor in new.items():
            numbers = _differing(old[name].float(), tensor.float()).nonzero().flatten()
            if len(numbers):
                parts[name] = Part(numbers, tensor[numbers].float())
    if not parts:
        raise ValueError("base and changed model have the same q, k and v: there are no rows")
    if base_hash is None and not isinstance(base, nn.Module):
        base_hash = folder_hash(Path(base))
    return Rows(parts=parts, geometry=shapes[0], base_hash=base_hash)


def compose(*several: Rows) -> Rows:
    """The union of several sets of rows of one base.

    Raises:
        ValueError: If their bases differ, or they hold one row with different values.
    """
    if not several:
        raise ValueError("compose needs at least one set of rows")
    first = several[0]
    for other in several[1:]:
        if (other.base_hash, other.geometry) != (first.base_hash, first.geometry):
            raise ValueError(
                "rows of different bases cannot be composed: "
                f"{first.base_hash} and {other.base_hash}"
            )
    names = dict.fromkeys(name for rows in several for name in rows.parts)
    parts = {n: _union(n, [rows.parts[n] for rows in several if n in rows.parts]) for n in names}
    return Rows(parts=parts, geometry=first.geometry, base_hash=first.base_hash)


def base_rows(rows: Rows, base: Source) -> Mapping[str, Tensor]:
    """What stands in the base where `rows` would go, in float32; shapes as in `rows.parts`.

    Raises:
        ValueError: If the base lacks a matrix, has another shape or is merged itself.
    """
    if hasattr(base, _MERGED):
        raise ValueError("rows were merged into this base: name the base as it was before")
    _check_geometry(base, rows)
    read = read_qkv(base, rows.geometry)
    found = {}
    for layer in sorted({int(name.split(".")[2]) for name in rows.parts}):
        for name, tensor in read(layer).items():
            if part := rows.parts.get(name):
                _check_shape(name, tensor, rows)
                found[name] = tensor[part.numbers].float()
    if missing := rows.parts.keys() - found.keys():
        raise ValueError(f"{min(missing)} is missing in the base")
    return found


_MERGED = "_alps_merged_rows"
"""A model remembers by this which rows were merged into it."""


def _put(model: nn.Module, rows: Rows, values: Mapping[str, Tensor]) -> None:
    """Nothing is written before everything fits."""
    _check_geometry(model, rows)
    targets = {name: plain_weight(model, name) for name in rows.parts}
    for name, target in targets.items():
        _check_shape(name, target, rows)
    for name, target in targets.items():
        assert target is not None
        numbers = rows.parts[name].numbers.to(target.device)
        target.index_copy_(0, numbers, values[name].to(target.device, target.dtype))


def _check_geometry(source: Source, rows: Rows) -> None:
    found, wanted = geometry_of(source), rows.geometry
    if found not in (None, wanted):
        raise ValueError(f"the rows are of {in_words(wanted)}, the model has {in_words(found)}")


def _check_shape(name: str, tensor: Tensor | None, rows: Rows) -> None:
    wanted = (rows.height(name), *rows.parts[name].rows.shape[1:])
    found = None if tensor is None else tuple(tensor.shape)
    if found != wanted:
        raise ValueError(f"{name} has shape {found} in the model, the rows need {wanted}")


def _union(name: str, parts: Sequence[Part]) -> Part:
    if len({part.rows.shape[1:] for part in parts}) > 1:
        raise ValueError(f"the rows of {name} differ in length: they are of different bases")
    numbers, order = torch.cat([part.numbers for part in parts]).sort(stable=True)
    rows = torch.cat([part.rows for part in parts])[order]
    again = numbers[1:] == numbers[:-1]
    clash = (again & _differing(rows[1:], rows[:-1])).nonzero()
    if len(clash):
        raise ValueError(f"row {int(numbers[clash[0]])} of {name} has different values in two sets")
    keep = torch.cat([torch.tensor([True]), ~again])
    return Part(numbers[keep], rows[keep])


def _differing(a: Tensor, b: Tensor) -> Tensor:
    """Which rows differ in any bit: -0 is not 0 here, and NaN is itself."""
    bits = (t.contiguous().view(torch.int32).reshape(len(t), -1) for t in (a, b))
    return torch.ne(*bits).any(1)
