"""Model settings to local checkpoint folders.

`materialize` is the one place where models are downloaded, converted or generated; transformers
loads the resulting folder. Torch is imported only for conversion.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from alps.base.cache import cache_dir, cache_lock
from alps.base.hashing import digest
from alps.models.architecture import is_multimodal, read_config, stored_in_float8
from alps.settings.model import Model


def materialize(model: Model) -> Path:
    """A local folder with config, tokenizer and unquantized safetensors of this model.

    Weights in float8 are dequantized to float32, and the language model of a multimodal checkpoint
    is extracted, once.

    Raises:
        ValueError: If it is unavailable or cannot be trained.
    """
    stored = fetch(model)
    content = digest([model.fingerprint(), hub_commit(stored)])
    if stored_in_float8(stored):
        return _cached(f"{model.name}-float32", content, partial(_dequantize, stored))
    if is_multimodal(read_config(stored)):
        return _cached(f"{model.name}-text", content, partial(_extract_text, stored))
    return stored


def fetch(model: Model) -> Path:
    """The model as published, in a folder of the user or of the hub's cache, or converted here.

    Raises:
        ValueError: If it is unavailable.
    """
    if model.path and os.path.exists(model.path):
        return Path(model.path)
    if model.repo:
        from alps.models.hub import download

        return download(model.repo, model.hub_revision, stored_in_float8)
    make = _convert_gguf if model.package else _generate_random
    return _cached(model.name, model.fingerprint(), partial(make, model))


def materialize_qkv(model: Model) -> Path:
    """As `materialize`, but downloads only q, k and v of a hub model, for scoring.

    Raises:
        ValueError: If it is unavailable.
    """
    if not model.repo:
        return materialize(model)
    from alps.models.hub import fetch_qkv

    return fetch_qkv(model.repo, model.hub_revision)


def hub_commit(folder: Path) -> str | None:
    """The commit of a snapshot in the hub's cache, or None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def _cached(name: str, content: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, written once by `make(folder)` under a temporary name.

    Args:
        name: Name of the model, for readers.
        content: Hash of the inputs.
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


def _extract_text(stored: Path, folder: Path) -> None:
    from alps.models.conversion import extract_language_model

    extract_language_model(stored, folder)


def _generate_random(model: Model, folder: Path) -> None:
    from alps.models.conversion import generate_random

    generate_random(dict(model.random or {}), model.seed, folder)
