"""Two checkpoints in, a score for every attention head out (Algorithm 1, lines 1 to 8).

Only q, k and v are read, one layer at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from alps.heads import Geometry, HeadSet, top
from alps.identity import digest
from alps.results import replacing, write_json
from alps.scores import load as load_score
from alps.settings import ALGORITHM_VERSION


@dataclass(frozen=True)
class Scores:
    """A number for every head of a model.

    Attributes:
        values: float64, shape (num_layers, num_heads); larger means more changed.
        metric: What the numbers are.
        geometry: Shape of the model.
        base_hash: Content of the base checkpoint.
        task_hash: Content of the task checkpoint.
    """

    values: Float[Tensor, "layers heads"]
    metric: str
    geometry: Geometry
    base_hash: str | None = None
    task_hash: str | None = None

    def top(self, ratio: float) -> HeadSet:
        """The K = ceil(ratio * all) heads of the highest score (Algorithm 1, lines 7 and 9).

        Raises:
            ValueError: If all scores are zero: the checkpoints are identical.
        """
        if not self.values.any():
            raise ValueError(
                "base and task model have identical attention weights: "
                "every score is zero, so no head can be chosen"
            )
        chosen = top(self.values.tolist(), self.geometry.count(ratio))
        return HeadSet(
            heads=tuple(chosen),
            geometry=self.geometry,
            metric=self.metric,
            ratio=ratio,
            base_hash=self.base_hash,
            task_hash=self.task_hash,
        )


def localize(
    base: Path,
    task: Path,
    geometry: Geometry,
    metric: str = "pad",
    base_hash: str | None = None,
    task_hash: str | None = None,
) -> Scores:
    """Scores every head by how far its matrix (eq. 5) moved from `base` to `task`.

    Args:
        base: Folder of safetensors, or one file.
        task: Likewise; must have the same shapes.
        geometry: Shape of the model.
        metric: Name of a module in `alps.scores`.
        base_hash: Recorded with the scores.
        task_hash: Recorded with the scores.

    Raises:
        ValueError: If tensors are missing, differ in shape, or hold NaN or infinity.
    """
    score = load_score(metric)
    values = torch.zeros(geometry.num_layers, geometry.num_heads, dtype=torch.float64)
    width = read_qkv(base, 0)[0].shape[1]
    for layer in range(geometry.num_layers):
        pairs = zip(
            head_matrices(_fitting(base, layer, geometry, width), geometry),
            head_matrices(_fitting(task, layer, geometry, width), geometry),
            strict=True,
        )
        for head, (base_matrix, task_matrix) in enumerate(pairs):
            value = score(base_matrix, task_matrix)
            if not math.isfinite(value):
                raise ValueError(f"the {metric} score of head ({layer}, {head}) is {value}")
            values[layer, head] = value
    return Scores(values, metric, geometry, base_hash, task_hash)


def localize_cached(
    output_dir: Path,
    *,
    base: Path,
    task: Path,
    geometry: Geometry,
    metric: str,
    base_hash: str,
    task_hash: str,
) -> Scores:
    """`localize`, remembered in `outputs/scores/<key>` by metric and content of checkpoints."""
    hashes = {"base_hash": base_hash, "task_hash": task_hash}
    identity = {
        "algorithm": ALGORITHM_VERSION,
        "metric": metric,
        "geometry": asdict(geometry),
        **hashes,
    }
    folder = output_dir / "scores" / f"{metric}-{digest(identity)[:12]}"
    if (folder / "scores.json").exists():
        try:
            values = load_file(folder / "scores.safetensors")[metric]
            return Scores(values, metric, geometry, **hashes)
        except (SafetensorError, OSError, KeyError):
            pass  # damaged: computed again below
    scores = localize(base, task, geometry, metric, **hashes)
    with replacing(folder / "scores.safetensors") as temporary:
        save_file({metric: scores.values}, temporary)
    write_json(folder / "scores.json", identity)
    return scores


def head_matrices(
    qkv: tuple[Tensor, Tensor, Tensor], geometry: Geometry
) -> Iterator[Float[Tensor, "d_model d_head"]]:
    """W_q^h (W_k^g^T W_v^g) for each head h of a layer and its KV group g (eq. 5), in float64.

    The projections are stored transposed (rows are outputs), so the paper's W_q^h is `q.T`; the
    bracket is computed once for all heads of a group.
    """
    q, k, v = (t.double().unflatten(0, (-1, geometry.head_dim)) for t in qkv)
    inner = k @ v.transpose(1, 2)
    for head in range(geometry.num_heads):
        yield q[head].T @ inner[geometry.kv_group(head)]


def read_qkv(checkpoint: Path, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """The q, k and v weights of one layer, each of shape (rows, d_model).

    Raises:
        ValueError: If one is missing, the file is damaged, or a value is not finite.
    """
    found = []
    for name in qkv_names(layer):
        try:
            with safe_open(_file_with(checkpoint, name), framework="pt") as file:
                tensor = file.get_tensor(name)
        except (SafetensorError, OSError, KeyError) as error:
            raise ValueError(f"{checkpoint} has no readable tensor {name} ({error})") from None
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} in {checkpoint} holds NaN or infinite values")
        found.append(tensor)
    return tuple(found)


def _fitting(
    checkpoint: Path, layer: int, geometry: Geometry, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    qkv = read_qkv(checkpoint, layer)
    blocks = (geometry.num_heads, geometry.num_kv_heads, geometry.num_kv_heads)
    for name, tensor, count in zip(qkv_names(layer), qkv, blocks, strict=True):
        wanted = (count * geometry.head_dim, width)
        if tuple(tensor.shape) != wanted:
            raise ValueError(
                f"{name} in {checkpoint} has shape {tuple(tensor.shape)}, not {wanted}: "
                "base and task model must have the same shapes"
            )
    return qkv


def qkv_names(layer: int) -> list[str]:
    """Names of the three projections of a layer in Llama-type checkpoints."""
    return [f"model.layers.{layer}.self_attn.{p}_proj.weight" for p in "qkv"]


def _file_with(checkpoint: Path, name: str) -> Path:
    if checkpoint.is_file():
        return checkpoint
    index = checkpoint / "model.safetensors.index.json"
    if index.exists():
        return checkpoint / json.loads(index.read_text())["weight_map"][name]
    return checkpoint / "model.safetensors"
