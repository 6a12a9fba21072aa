"""What makes two runs the same: canonical settings, and content hashes of files and folders.

Hashes of files are remembered by size and modification time.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from alps.base.atomic import write_json

MODEL_FILES = (
    "*.safetensors", "*.gguf", "*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt",
)  # fmt: skip
"""Weights, configuration, and all that a tokenizer is made of, its chat template included."""


def cache_dir() -> Path:
    """Folder for what can be made again: converted models, hashes (`ALPS_CACHE_DIR`)."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "alps"
    return Path(os.environ.get("ALPS_CACHE_DIR", default)).expanduser()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, computed once for each (path, size, modification time)."""
    path = path.resolve()
    name = hashlib.sha256(str(path).encode()).hexdigest()
    return cached_hash(name, stat_fingerprint(path), lambda: content_sha256(path))


def stat_fingerprint(path: Path) -> list[int]:
    """What changes with a file: size, times and inode."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_hash(name: str, stamp: Any, compute: Callable[[], str]) -> str:
    """What `compute` gave under this name and stamp, or gives now.

    Args:
        name: Of the entry.
        stamp: Plain value that is another one whenever the hash may be.
        compute: The hash, at a price.
    """
    memory = cache_dir() / "hashes" / f"{name}.json"
    try:
        remembered = json.loads(memory.read_text())
        if remembered["stamp"] == stamp:
            return remembered["sha256"]
    except (OSError, ValueError, KeyError):
        pass
    sha256 = compute()
    write_json(memory, {"stamp": stamp, "sha256": sha256})
    return sha256


def folder_hash(path: Path) -> str:
    """Hash over the names and contents of a model folder's weight, config and tokenizer files."""
    if path.is_file():
        return file_hash(path)
    files = sorted({f for pattern in MODEL_FILES for f in path.glob(pattern)})
    listing = [(f.name, file_hash(f)) for f in files]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def cheap_fingerprint(path: Path) -> str:
    """Names, sizes and times of a checkpoint's files: a stand-in for reading them all.

    It tells one state of a place from another, in no time; a copy elsewhere has another stamp.
    """
    found = {f for pattern in MODEL_FILES for f in path.glob(pattern)}
    files = [path] if path.is_file() else sorted(found)
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return f"stamp {digest([str(path.resolve()), stats])}"


def cache_lock(name: str) -> FileLock:
    """A lock in the cache folder, so that two processes never build one entry at once."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


def excluded_from_key(default: Any = None) -> Any:
    """A field that describes where or how, not what: it is left out of the key."""
    return field(default=default, metadata={"identity": False})


def excluded_at_default(default: Any) -> Any:
    """A field that came later: at its default the key is the one that runs had before."""
    return field(default=default, metadata={"unless": default})


def canonical(value: Any) -> Any:
    """Plain form of what identifies `value`: content fingerprints in, places and names out."""
    if is_dataclass(value) and not isinstance(value, type):
        plain: dict[str, Any] = {"class": type(value).__name__}
        plain |= {
            f.name: canonical(getattr(value, f.name))
            for f in fields(value)
            if f.metadata.get("identity", True)
            and not ("unless" in f.metadata and getattr(value, f.name) == f.metadata["unless"])
        }
        if fingerprint := getattr(value, "fingerprint", None):
            plain["fingerprint"] = fingerprint()
        return plain
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return value


def digest(plain: Any) -> str:
    """SHA-256 of a plain value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
