"""How model families name their parts, and which of them can be trained. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alps.heads.geometry import Geometry

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


def stored_in_float8(folder: Path) -> bool:
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
