"""Checkpoints as local folders: what any model setting becomes before it is loaded.

`materialize` is the one place where models are downloaded, converted or generated; its result is a
folder that plain transformers loads. Torch is imported only where something must be made.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from alps.heads import Geometry
from alps.identity import cache_dir, cache_lock, digest
from alps.settings import Model

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
REQUIRED = {"num_attention_heads", "num_hidden_layers", "hidden_size"}
CLASS_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8},
    "qwen2": {"num_key_value_heads": 32},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
}
"""What transformers' config classes take where `config.json` is silent, without importing them."""

FUSED = ("phi3", "phi", "gpt2", "gpt_neox", "gpt_bigcode", "falcon", "bloom", "mpt", "chatglm")


def materialize(model: Model) -> Path:
    """A local folder with config, tokenizer and plain safetensors of this model.

    Weights in float8 are dequantized to float32, once.

    Raises:
        ValueError: If it cannot be had or cannot be trained; one sentence.
    """
    stored = fetched(model)
    if not trainable(stored):
        return stored
    content = digest([model.fingerprint(), hub_commit(stored)])
    return _made_once(f"{model.name}-float32", content, partial(_dequantize, stored))


def fetched(model: Model) -> Path:
    """The model as it is published: a folder of the user's or of the hub's cache, or one made here.

    Raises:
        ValueError: If it cannot be had; one sentence.
    """
    if model.path and os.path.exists(model.path):
        return Path(model.path)
    if model.repo:
        from alps.models.hub import download

        return download(model.repo, model.hub_revision, trainable)
    make = _convert_gguf if model.package else _generate_random
    return _made_once(model.name, model.fingerprint(), partial(make, model))


def trainable(folder: Path) -> bool:
    """Refuses by its `config.json` a model that cannot be trained.

    Returns:
        Whether its weights are stored in float8 and are to be dequantized first.

    Raises:
        ValueError: If its architecture is not supported or its weights are quantized otherwise.
    """
    config = read_config(folder)
    geometry_of(config, folder)
    quantization = config.get("quantization_config")
    if not quantization:
        return False
    how = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    if how != "fp8":
        raise ValueError(
            f"{folder} is a quantized checkpoint ({how or 'of an unknown method'}), whose weights "
            "cannot be trained or compared: give the model before quantization, or "
            "optim.frozen_dtype=nf4 to keep what does not train in 4 bits"
        )
    return True


def scorable(model: Model) -> Path:
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


def read_config(folder: Path) -> Mapping[str, Any]:
    """The model's `config.json`.

    Raises:
        ValueError: If there is none.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        config = None
    if not isinstance(config, Mapping):
        raise ValueError(f"{folder} is not a model folder: it has no readable config.json")
    return config


def read_geometry(folder: Path) -> Geometry:
    """Shape of the attention of the model in `folder`.

    Raises:
        ValueError: If the architecture has no separate q, k and v projections or is unknown.
    """
    return geometry_of(read_config(folder), folder)


def geometry_of(config: Mapping[str, Any], folder: Path | str) -> Geometry:
    """The shape that a `config.json` describes.

    Args:
        config: What is in it.
        folder: Where it is, for messages.

    Raises:
        ValueError: If the architecture has no separate q, k and v projections or is unknown.
    """
    kind = config.get("model_type", "unknown")
    if kind in FUSED:
        raise ValueError(
            f"{folder} is a {kind} model, whose q, k and v are one fused matrix; "
            f"supported architectures: {', '.join(ARCHITECTURES)}"
        )
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"{folder} is a {kind} model; supported architectures: {', '.join(ARCHITECTURES)}"
        )
    config = {**CLASS_DEFAULTS[kind], **config}
    missing = REQUIRED - config.keys()
    if missing:
        raise ValueError(f"config.json in {folder} has no {', '.join(sorted(missing))}")
    sizes = (*sorted(REQUIRED), "num_key_value_heads", "head_dim")
    for name in sizes:
        if not isinstance(config.get(name) or 1, int):
            raise ValueError(f"config.json in {folder}: {name} is no number, but {config[name]!r}")
    num_heads = config["num_attention_heads"]
    return Geometry(
        num_layers=config["num_hidden_layers"],
        num_heads=num_heads,
        num_kv_heads=config.get("num_key_value_heads") or num_heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // num_heads,
    )


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
