"""The cache folder: converted models, encoded data and hashes, all of which can be recomputed."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

from alps.base.lock import hold


def cache_dir() -> Path:
    """The cache folder (`ALPS_CACHE_DIR`)."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "alps"
    return Path(os.environ.get("ALPS_CACHE_DIR", default)).expanduser()


def cache_lock(name: str) -> AbstractContextManager[None]:
    """A lock for one entry of the cache, so that only one process builds it."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return hold(folder / f"{name}.lock")
