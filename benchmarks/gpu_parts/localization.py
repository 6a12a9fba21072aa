"""Scores of an 8B-shaped pair of checkpoints on disk; they are computed on the CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import localize as script
import torch

from gpu_parts.report import Failure, Report

GIB = 2**30
SPARE = 2 * GIB
"""Bytes of the disk to leave free."""


def localize(report: Report) -> None:
    """Seconds and peak memory of scoring all heads; fewer layers if the disk is short."""
    free = shutil.disk_usage(report.scratch or tempfile.gettempdir()).free
    layers = layers_that_fit(free, 1 if report.tiny else 32)
    if not layers:
        report.say("", f"localize: {free / GIB:.1f} GiB of disk are free, too few for one layer")
        return
    cells = []
    with tempfile.TemporaryDirectory(dir=report.scratch) as folder:
        pair = script.build_pair(Path(folder), layers, torch.float32)
        script.read_once(*pair)
        for variant in list(script.VARIANTS)[: 1 if report.tiny else None]:
            found = report.attempt(variant, lambda v=variant: _scored(pair, layers, v))
            failed = isinstance(found, Failure)
            cells.append((variant, found.text, "") if failed else (variant, *found))
    heads = script.shape(layers).total_heads
    title = f"8B shape, {layers} of 32 layers, {heads} heads, bfloat16 and float32, on the CPU"
    report.table(title, ("what", "s", "peak resident MB"), cells)


def layers_that_fit(free: int, wanted: int) -> int:
    """Layers of the pair whose files fit into `free` bytes of disk.

    Args:
        free: Free bytes.
        wanted: Layers of the full pair.
    """
    one = script.shape(1).qkv_rows * script.WIDTH * (2 + 4)
    return max(min(wanted, (free - SPARE) // one), 0)


def _scored(pair: tuple[Path, Path], layers: int, variant: str) -> tuple[str, str]:
    """Seconds here, and the peak of a process of its own, to which GPUs are hidden."""
    start = time.perf_counter()
    script.score(*pair, layers, variant)
    seconds = time.perf_counter() - start
    command = [sys.executable, script.__file__, "--layers", str(layers), "--only", variant]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # the peak is then resident memory
    done = subprocess.run(
        [*command, *map(str, pair)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-300:])
    return f"{seconds:.2f}", f"{float(done.stdout.split()[-1]):.0f}"
