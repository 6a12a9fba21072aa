"""Checkpoints as local folders: what any model setting becomes before it is loaded.

`materialize` is the one place where models are downloaded, converted or generated; its result is a
folder that plain transformers loads. Torch is imported only where something must be made.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alps.heads import Geometry
from alps.identity import cache_dir, cache_lock
from alps.settings import Model

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
REQUIRED = {"num_attention_heads", "num_hidden_layers", "hidden_size"}
FUSED = ("phi3", "phi", "gpt2", "gpt_neox", "gpt_bigcode", "falcon", "bloom", "mpt", "chatglm")


def materialize(model: Model) -> Path:
    """A local folder with config, tokenizer and safetensors of this model.

    Raises:
        ValueError: If it cannot be had or its architecture is not supported; one sentence.
    """
    if model.path and os.path.exists(model.path):
        folder = Path(model.path)
    elif model.repo:
        from alps.models.hub import download

        folder = download(model.repo, model.revision)
    elif model.package:
        folder = _made_once(model, _convert_gguf)
    else:
        folder = _made_once(model, _generate_random)
    read_geometry(folder)  # refuses what cannot be trained
    return folder


def scorable(model: Model) -> Path:
    """As `materialize`, but of a hub model only q, k and v, which is what a score needs.

    Raises:
        ValueError: If it cannot be had; one sentence.
    """
    if not model.repo:
        return materialize(model)
    from alps.models.hub import fetch_qkv

    return fetch_qkv(model.repo, model.revision)


def commit_of(folder: Path) -> str | None:
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


def _made_once(model: Model, make: Any) -> Path:
    """Runs `make(model, folder)` into a temporary folder that is renamed when whole."""
    folder = cache_dir() / "models" / f"{model.name}-{model.fingerprint()[:12]}"
    if (folder / "config.json").exists():
        return folder
    with cache_lock(folder.name):
        if not (folder / "config.json").exists():
            temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            try:
                make(model, temporary)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _convert_gguf(model: Model, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    print(f"converting {model.package_file().name} to safetensors, once", file=sys.stderr)
    gguf = model.package_file()
    place = {"gguf_file": gguf.name, "local_files_only": True}
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **place)
    # Its weights are plain float32 now, but it refuses to be saved: a plain model takes them over.
    delattr(quantized.config, "quantization_config")
    plain = AutoModelForCausalLM.from_config(quantized.config, dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, **place).save_pretrained(folder)


def _generate_random(model: Model, folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from alps.models.byte_tokenizer import byte_tokenizer

    tokenizer = byte_tokenizer()
    special = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    spec: dict[str, Any] = dict(model.random or {})
    config = LlamaConfig(vocab_size=len(tokenizer), **special, **spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        LlamaForCausalLM(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
