"""Flat arrays on disk: written piece by piece, checked when they are opened, never read whole."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np


class ArrayFile:
    """An array that is being written, with a checksum."""

    def __init__(self, path: Path, dtype: np.dtype[Any]):
        """Begins an empty file."""
        self.path, self.dtype = path, dtype
        self.count = self.checksum = 0
        self._file = path.open("wb")

    def append(self, values: np.ndarray) -> None:
        """Writes some more numbers."""
        data = values.astype(self.dtype).tobytes()
        self._file.write(data)
        self.count += len(values)
        self.checksum = zlib.crc32(data, self.checksum)

    def close(self) -> None:
        """Flushes to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def mapped(path: Path, dtype: str, count: int, checksum: int) -> np.ndarray:
    """The file as an array.

    Raises:
        ValueError: If it is not what was written.
    """
    found, size = 0, 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(2**22):
            found, size = zlib.crc32(data, found), size + len(data)
    if (found, size) != (checksum, count * np.dtype(dtype).itemsize):
        raise ValueError(f"{path} is damaged")
    if not count:  # nothing cannot be mapped
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")
