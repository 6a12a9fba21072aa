"""Reads the samples of an evaluation; `alps.evals.harness.samples` writes them, with lm-eval."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def samples_path(folder: Path, name: str, compressed: bool = False) -> Path:
    """Path of a task's samples, named as lm-eval does."""
    return folder / f"samples_{name}.jsonl{'.gz' if compressed else ''}"


def read_samples(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yields the samples of a task.

    Raises:
        ValueError: If there is no such file.
    """
    for compressed in (False, True):
        path = samples_path(folder, name, compressed)
        if path.is_file():
            with gzip.open(path, "rt") if compressed else path.open() as file:
                yield from (json.loads(line) for line in file)
            return
    raise ValueError(f"{folder} has no samples of {name}: evaluate again")
