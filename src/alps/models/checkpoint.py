"""Checkpoints as local folders: what any model setting becomes before it is loaded.

`materialize` is the one place where models are downloaded, converted or generated; its result is a
folder that plain transformers loads. Torch is imported only where something must be made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from alps.base.cache import cache_dir, cache_lock
from alps.base.hashing import digest
from alps.models.architecture import stored_in_float8
from alps.settings.model import Model


def materialize(model: Model) -> Path:
    """A local folder with config, tokenizer and plain safetensors of this model.

    Weights in float8 are dequantized to float32, once.

    Raises:
        ValueError: If it cannot be had or cannot be trained; one sentence.
    """
    stored = fetch(model)
    if not stored_in_float8(stored):
        return stored
    content = digest([model.fingerprint(), hub_commit(stored)])
    return _made_once(f"{model.name}-float32", content, partial(_dequantize, stored))


def fetch(model: Model) -> Path:
    """The model as it is published: a folder of the user's or of the hub's cache, or one made here.

    Raises:
        ValueError: If it cannot be had; one sentence.
    """
    if model.path and os.path.exists(model.path):
        return Path(model.path)
    if model.repo:
        from alps.models.hub import download

        return download(model.repo, model.hub_revision, stored_in_float8)
    make = _convert_gguf if model.package else _generate_random
    return _made_once(model.name, model.fingerprint(), partial(make, model))


def materialize_qkv(model: Model) -> Path:
    """As `materialize`, but of a hub model only q, k and v, which is what a score needs.

    Raises:
        ValueError: If it cannot be had; one sentence.
    """
    if not model.repo:
        return materialize(model)
    from alps.models.hub import fetch_qkv

    return fetch_qkv(model.repo, model.hub_revision)


def hub_commit(folder: Path) -> str | None:
    """The commit of a snapshot in the hub's cache, or None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def _made_once(name: str, content: str, make: Callable[[Path], None]) -> Path:
    """Runs `make(folder)` into a temporary folder that is renamed when complete.

    Args:
        name: Of the model, for people.
        content: Hash of what it is made of.
        make: Writes config, tokenizer and safetensors.
    """
    folder = cache_dir() / "models" / f"{name}-{content[:12]}"
    if (folder / "config.json").exists():
        return folder
    with cache_lock(folder.name):
        if not (folder / "config.json").exists():
            temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            try:
                make(temporary)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _convert_gguf(model: Model, folder: Path) -> None:
    from alps.models.conversion import convert_gguf

    convert_gguf(model.package_file(), folder)


def _dequantize(stored: Path, folder: Path) -> None:
    from alps.models.conversion import dequantize_float8

    dequantize_float8(stored, folder)


def _generate_random(model: Model, folder: Path) -> None:
    from alps.models.conversion import generate_random

    generate_random(dict(model.random or {}), model.seed, folder)
