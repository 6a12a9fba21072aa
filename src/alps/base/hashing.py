"""Content hashes of values, files and model folders; those of files are cached."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alps.base.atomic import write_json
from alps.base.cache import cache_dir

MODEL_FILES = (
    "*.safetensors", "*.gguf", "*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt",
)  # fmt: skip
"""Weights, configuration, and all files of a tokenizer, including its chat template."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON value; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, not cached."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stat_fingerprint(path: Path) -> list[int]:
    """Size, times and inode of a file: they change with its content."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, cached by path and `stat_fingerprint`."""
    path = path.resolve()
    name = hashlib.sha256(str(path).encode()).hexdigest()
    return cached_hash(name, stat_fingerprint(path), lambda: content_sha256(path))


def cached_hash(name: str, fingerprint: Any, compute: Callable[[], str]) -> str:
    """The cached hash of this name, recomputed if the fingerprint has changed.

    Args:
        name: Name of the cache entry.
        fingerprint: JSON value that changes whenever the hash may change.
        compute: Computes the hash, at a cost.
    """
    entry = cache_dir() / "hashes" / f"{name}.json"
    try:
        stored = json.loads(entry.read_text())
        if stored["stamp"] == fingerprint:
            return stored["sha256"]
    except (OSError, ValueError, KeyError):
        pass
    sha256 = compute()
    write_json(entry, {"stamp": fingerprint, "sha256": sha256})
    return sha256


def folder_hash(path: Path) -> str:
    """Hash of names and contents of a model folder's weights, configuration and tokenizer."""
    if path.is_file():
        return file_hash(path)
    files = sorted({f for pattern in MODEL_FILES for f in path.glob(pattern)})
    listing = [(f.name, file_hash(f)) for f in files]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def cheap_fingerprint(path: Path) -> str:
    """Hash of path, names, sizes and times of a checkpoint's files, without reading them.

    It changes with the content, but a copy in another place has another fingerprint.
    """
    found = {f for pattern in MODEL_FILES for f in path.glob(pattern)}
    files = [path] if path.is_file() else sorted(found)
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return f"stamp {digest([str(path.resolve()), stats])}"
