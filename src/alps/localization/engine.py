"""`localize`: reads two checkpoints, one KV group at a time, and scores every head."""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from alps.base.serialization import SettingsError, did_you_mean
from alps.heads.geometry import Geometry
from alps.localization.authors import authors_scores
from alps.localization.head_pairs import Bias, Matrix, head_pairs
from alps.localization.request import authors_problems
from alps.localization.rounding import Rounding, rounding
from alps.localization.scores import Scores
from alps.models.architecture import read_geometry
from alps.models.qkv import KVGroup, QKVCheckpoint
from alps.scores import load_score, metric_names, option_problems

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the numbers of KV groups done and in total."""

MAX_THREADS = 8
"""Each needs one KV group of both checkpoints in float64; more add memory and little speed."""


def localize(
    base: Path | str,
    task: Path | str,
    metric: str = "pad",
    *,
    geometry: Geometry | None = None,
    matrix: Matrix = "product",
    bias: Bias = "ignore",
    compat: Literal["authors"] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Scores:
    """Scores every head by the change of its matrix from `base` to `task`.

    Args:
        base: Folder of safetensors, one such file, or a hub id (`org/name`, `org/name@revision`).
        task: Likewise; must have the same shapes.
        metric: Name of a module in `alps.scores`.
        geometry: Geometry of the model; needed only if neither checkpoint has a `config.json`.
        matrix: Matrix of a head: `product` (eq. 5) or `concat` (q, k and v).
        bias: `ignore` biases of q, k and v, or `include` them as an additional input.
        compat: `authors` reproduces the authors' script, its GQA slices included.
        progress: Called after each KV group.
        **options: Options of the metric: `tau`, `ground` (pad), `direction` (kl), `of` (cosine).

    Returns:
        Scores of shape (num_layers, num_heads).

    Raises:
        ValueError: If a checkpoint cannot be read, their shapes differ, or a value is not finite.
    """
    return localize_metrics(
        base, task, {metric: options}, geometry=geometry, matrix=matrix, bias=bias, compat=compat,
        progress=progress,
    )[metric]  # fmt: skip


def localize_metrics(
    base: Path | str,
    task: Path | str,
    metrics: Mapping[str, Mapping[str, Any]],
    *,
    geometry: Geometry | None = None,
    matrix: Matrix = "product",
    bias: Bias = "ignore",
    compat: Literal["authors"] | None = None,
    progress: Progress | None = None,
) -> dict[str, Scores]:
    """`localize` for several metrics in one pass; `metrics` maps each to its options."""
    problems = list(_problems(metrics, matrix, bias, compat))
    if problems:
        raise SettingsError(problems)
    base_qkv, task_qkv = open_pair(base, task, geometry)
    geometry = base_qkv.geometry
    functions = {metric: load_score(metric) for metric in metrics}
    tables = {m: np.zeros((geometry.num_layers, geometry.num_heads)) for m in metrics}

    def score_group(layer: int, group: int) -> Rounding:
        pair = base_qkv.group(layer, group), task_qkv.group(layer, group)
        first = group * geometry.group_size
        for i, head in enumerate(head_pairs(*pair, geometry, matrix, bias)):
            for metric, function in functions.items():
                value = function(head, **metrics[metric])
                if not math.isfinite(value):
                    raise ValueError(
                        f"the {metric} score of head ({layer}, {first + i}) is {value}"
                    )
                tables[metric][layer, first + i] = value
        return group_rounding(*pair)

    if compat == "authors":
        tables, counts = authors_scores(base_qkv, task_qkv, list(metrics), progress), Rounding()
    else:
        counts = _in_threads(score_group, geometry, progress)
    if warning := counts.warning(task_qkv.dtype):
        log.warning("%s", warning)
    used = metrics if compat is None else {m: {} for m in metrics}  # fixed in the script
    about = {
        "matrix": matrix if compat is None else "concat",
        "flattening": "row after row (C order)",
        "bias": (bias if base_qkv.has_biases else "none") if compat is None else "ignore",
        "compat": compat,
        "base": str(base),
        "task": str(task),
        "base_dtype": base_qkv.dtype,
        "task_dtype": task_qkv.dtype,
        "entries_changed": counts.changed / counts.entries if counts.entries else None,
        "warning": warning,
    }
    return {
        metric: Scores(table, metric, geometry, provenance={**about, "options": dict(options)})
        for (metric, table), options in zip(tables.items(), used.values(), strict=True)
    }


def _problems(
    metrics: Mapping[str, Mapping[str, Any]], matrix: str, bias: str, compat: str | None
) -> Iterator[str]:
    for metric, options in metrics.items():
        yield from option_problems(metric, options)
    choices = {"matrix": get_args(Matrix), "bias": get_args(Bias), "compat": ("authors",)}
    values = {"matrix": matrix, "bias": bias, "compat": compat}
    for name, known in choices.items():
        if values[name] not in known and (name, compat) != ("compat", None):
            yield f"there is no {name}={values[name]}{did_you_mean(str(values[name]), known)}"
    if compat == "authors":
        for metric, options in metrics.items():
            if metric in metric_names():
                yield from authors_problems([metric], options, bias)


def open_pair(
    base: Path | str, task: Path | str, geometry: Geometry | None = None
) -> tuple[QKVCheckpoint, QKVCheckpoint]:
    """Opens two checkpoints and checks that they are complete and have one shape.

    Only names and shapes are read.

    Raises:
        ValueError: If a check fails.
    """
    places = [local_path(base), local_path(task)]
    shapes = [read_geometry(p) for p in places if (p / "config.json").exists()]
    if geometry is None and not shapes:
        raise ValueError(
            f"neither {base} nor {task} has a config.json that tells the number of heads"
        )
    if len({*shapes, *([geometry] if geometry else [])}) > 1:
        raise ValueError(f"base and task model differ in shape: {base} and {task}: {shapes}")
    pair = [QKVCheckpoint(place, geometry or shapes[0]) for place in places]
    for qkv in pair:
        qkv.check()
    if pair[0].width != pair[1].width or pair[0].has_biases != pair[1].has_biases:
        raise ValueError(
            f"base and task model differ in shape: {base} has width {pair[0].width} and "
            f"{'biases' if pair[0].has_biases else 'no biases'}, {task} has {pair[1].width} and "
            f"{'biases' if pair[1].has_biases else 'no biases'}"
        )
    return pair[0], pair[1]


def local_path(place: Path | str) -> Path:
    """A local folder or file; from the hub, only the bytes of q, k and v are downloaded."""
    if isinstance(place, Path) or Path(place).exists():
        return Path(place)
    from alps.models.hub import fetch_qkv

    repo, _, revision = place.partition("@")
    return fetch_qkv(repo, revision or "main")


def group_rounding(base: KVGroup, task: KVGroup) -> Rounding:
    """Change of a group's weights, in rounding steps of the task's dtype."""
    return sum(map(rounding, base.weights, task.weights), Rounding())


def _in_threads(
    work: Callable[[int, int], Rounding], geometry: Geometry, progress: Progress | None
) -> Rounding:
    """Scores all KV groups in as many threads as torch may use; numpy and torch release the GIL."""
    threads = torch.get_num_threads()
    groups = [
        (layer, group)
        for layer in range(geometry.num_layers)
        for group in range(geometry.num_kv_heads)
    ]
    counts = Rounding()
    pool = ThreadPoolExecutor(
        min(threads, MAX_THREADS), initializer=torch.set_num_threads, initargs=(1,)
    )
    with threadpool_limits(1), retain_freed_memory(), pool:
        waiting = [pool.submit(work, *group) for group in groups]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                counts += future.result()
                if progress:
                    progress(done, len(groups))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(threads)
    return counts


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Makes glibc reuse freed arrays instead of returning them to the kernel.

    Page faults of new arrays would take longer than the arithmetic on them. Afterwards the
    thresholds are those that glibc itself adapts to; without glibc nothing happens.
    """
    mmap_threshold, trim_threshold, mib = -3, -1, 2**20  # names of glibc's malloc.h
    set_option = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)
    set_option(mmap_threshold, 32 * mib)
    set_option(trim_threshold, 128 * mib)
    try:
        yield
    finally:
        set_option(trim_threshold, 64 * mib)
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
