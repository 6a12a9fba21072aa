"""Atomic file writes: a reader sees the old file or the complete new one."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alps.base.lock import check_held

MAX_NAME_BYTES = 255
"""Longest file name of common file systems."""


def can_hold_files(folder: Path) -> bool:
    """Whether files can be written to the folder, which may have to be created."""
    place = folder.absolute()
    there = next(p for p in (place, *place.parents) if os.path.exists(p))
    new = place.relative_to(there).parts
    possible = all("\0" not in n and len(os.fsencode(n)) <= MAX_NAME_BYTES for n in new)
    return possible and os.path.isdir(there) and os.access(there, os.W_OK)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON to a temporary file next to `path` and renames it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes text to a temporary file next to `path` and renames it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path, flushed and renamed to `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        check_held()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
