"""localize: reads two checkpoints, a KV group at a time, and scores every head."""

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
from alps.models.qkv import QKV, Group
from alps.scores import load, names, option_problems

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with KV groups done and KV groups in all."""

MOST_THREADS = 8
"""Each holds one KV group of both checkpoints in float64; more gain little and cost memory."""


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
    """Scores every head by how far its matrix moved from `base` to `task`.

    Args:
        base: Folder of safetensors, one such file, or a hub id (`org/name`, `org/name@revision`).
        task: Likewise; must have the same shapes.
        metric: Name of a module in `alps.scores`.
        geometry: Shape of the model; needed only if neither checkpoint has a `config.json`.
        matrix: What of a head is compared: `product` (eq. 5) or `concat` (q, k and v).
        bias: `ignore` biases of q, k and v, or `include` them as one more input.
        compat: `authors` computes what the authors' script does, its GQA slices included.
        progress: Called after each KV group.
        **options: Options of the metric, as `tau`, `ground` (pad), `direction` (kl) or `of`
            (cosine).

    Returns:
        Scores of shape (num_layers, num_heads).

    Raises:
        ValueError: One sentence, if a checkpoint cannot be read, the two do not fit together, or
            they hold NaN or infinity.
    """
    asked = {metric: options}
    return localize_metrics(
        base, task, asked, geometry=geometry, matrix=matrix, bias=bias, compat=compat,
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
    functions = {metric: load(metric) for metric in metrics}
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
        return compare_storage(*pair)

    if compat == "authors":
        tables, counts = authors_scores(base_qkv, task_qkv, list(metrics), progress), Rounding()
    else:
        counts = _in_threads(score_group, geometry, progress)
    if warning := counts.warning(task_qkv.dtype):
        log.warning("%s", warning)
    used = metrics if compat is None else {m: {} for m in metrics}  # the script's are its own
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
    given = {"matrix": matrix, "bias": bias, "compat": compat}
    for name, known in choices.items():
        if given[name] not in known and (name, compat) != ("compat", None):
            yield f"there is no {name}={given[name]}{did_you_mean(str(given[name]), known)}"
    if compat == "authors":
        for metric, options in metrics.items():
            if metric in names():
                yield from authors_problems([metric], options, bias)


def open_pair(
    base: Path | str, task: Path | str, geometry: Geometry | None = None
) -> tuple[QKV, QKV]:
    """Both checkpoints, known to be whole and of one shape; only names and shapes are read.

    Raises:
        ValueError: One sentence, if they are not.
    """
    places = [local(base), local(task)]
    shapes = [read_geometry(p) for p in places if (p / "config.json").exists()]
    if geometry is None and not shapes:
        raise ValueError(
            f"neither {base} nor {task} has a config.json that tells the number of heads"
        )
    if len({*shapes, *([geometry] if geometry else [])}) > 1:
        raise ValueError(f"base and task model differ in shape: {base} and {task}: {shapes}")
    pair = [QKV(place, geometry or shapes[0]) for place in places]
    for qkv in pair:
        qkv.check()
    if pair[0].width != pair[1].width or pair[0].has_biases != pair[1].has_biases:
        raise ValueError(
            f"base and task model differ in shape: {base} has width {pair[0].width} and "
            f"{'biases' if pair[0].has_biases else 'no biases'}, {task} has {pair[1].width} and "
            f"{'biases' if pair[1].has_biases else 'no biases'}"
        )
    return pair[0], pair[1]


def local(place: Path | str) -> Path:
    """A local folder or file; of a hub id, only the q/k/v bytes are fetched."""
    if isinstance(place, Path) or Path(place).exists():
        return Path(place)
    from alps.models.hub import fetch_qkv

    repo, _, revision = place.partition("@")
    return fetch_qkv(repo, revision or "main")


def compare_storage(base: Group, task: Group) -> Rounding:
    """How much of a group changed, in steps of the task's storage."""
    return sum(map(rounding, base.weights, task.weights), Rounding())


def _in_threads(
    work: Callable[[int, int], Rounding], geometry: Geometry, progress: Progress | None
) -> Rounding:
    """Every KV group, in as many threads as torch may use; numpy and torch let others run."""
    threads = torch.get_num_threads()
    groups = [
        (layer, group)
        for layer in range(geometry.num_layers)
        for group in range(geometry.num_kv_heads)
    ]
    counts = Rounding()
    pool = ThreadPoolExecutor(
        min(threads, MOST_THREADS), initializer=torch.set_num_threads, initargs=(1,)
    )
    with threadpool_limits(1), freed_memory_kept(), pool:
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
def freed_memory_kept() -> Iterator[None]:
    """Lets glibc use freed arrays again instead of returning them to the kernel.

    Fetching the pages of every array anew takes longer than the arithmetic on it. What stays is
    what glibc would set itself after a while; elsewhere than on glibc nothing happens.
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
