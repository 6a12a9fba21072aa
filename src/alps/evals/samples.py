"""Where an evaluation's samples are, and their reading; what writes them needs lm-eval."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def samples_path(folder: Path, name: str, compressed: bool = False) -> Path:
    """The file of a task's samples, named as lm-eval names it."""
    return folder / f"samples_{name}.jsonl{'.gz' if compressed else ''}"


def read_samples(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The samples in a folder, one at a time.

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
