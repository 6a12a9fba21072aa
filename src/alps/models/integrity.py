"""Refuses a checkpoint whose weights do not match its config.

At each load, transformers initializes missing tensors at random and ignores unexpected ones.
Therefore every checkpoint is first loaded on the meta device, which reads names and shapes only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel

from alps.base.hashing import cheap_fingerprint
from alps.base.log_levels import log_level
from alps.models.architecture import EMBEDDING, OUTPUT, model_geometry, read_geometry
from alps.models.qkv import DTYPES, QKVCheckpoint, stored_dtypes, tensor_files

SHOWN = 3
"""Number of tensors named in a message."""

ADAPTER_MARKS = (".base_layer.", ".lora_A.", ".lora_B.", "base_model.model.")


def check_weights(folder: Path) -> int:
    """Compares the tensors in a folder with the model that its `config.json` describes.

    Args:
        folder: A materialized checkpoint (`alps.models.checkpoint.materialize`).

    Returns:
        Number of rows of the embedding matrix.

    Raises:
        ValueError: If a tensor is missing, unexpected, of another shape or not floating-point.
    """
    return _check_weights(folder, cheap_fingerprint(folder))


@lru_cache(maxsize=64)
def _check_weights(folder: Path, state: str) -> int:
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder} holds an adapter beside a model, and what loads it would apply it: merge it "
            "(peft's merge_and_unload) and give the folder, or remove adapter_config.json"
        )
    _check_dtypes(folder)
    model, found = _on_meta(folder)
    if problem := _problem(found):
        raise ValueError(f"{folder} {problem}")
    _check_shape(folder, model)
    if model.config.tie_word_embeddings:
        _check_tying(folder)
    return model.get_parameter(EMBEDDING).shape[0]


def _check_dtypes(folder: Path) -> None:
    odd = {name: dtype for name, dtype in stored_dtypes(folder).items() if dtype not in DTYPES}
    if odd:
        name, dtype = next(iter(odd.items()))
        raise ValueError(
            f"{name} in {folder} is stored as {dtype}: give the model before quantization, in "
            f"{', '.join(DTYPES)}"
        )


def _on_meta(folder: Path) -> tuple[PreTrainedModel, Mapping[str, Any]]:
    """The model without weights, and transformers' loading info."""
    load: Any = AutoModelForCausalLM.from_pretrained  # its type omits the loading info
    try:
        with log_level(logging.ERROR, "transformers"):  # its own loading report
            return load(
                folder,
                device_map="meta",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
            )
    except Exception as error:  # transformers raises many types here
        first = " ".join(str(error).split())[:300]
        raise ValueError(f"{folder} cannot be loaded ({first or type(error).__name__})") from None


def _problem(found: Mapping[str, Any]) -> str | None:
    """Error message for a loaded checkpoint, or None.

    Args:
        found: transformers' `loading_info`.
    """
    missing, unexpected = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    for name, stored, described in sorted(found["mismatched_keys"]):
        return (
            f"holds {name} of shape {list(stored)} where config.json describes {list(described)}: "
            "config.json is of another model, or was not saved again after a change"
        )
    if found.get("error_msgs"):
        return f"cannot be loaded ({' '.join(str(found['error_msgs'][0]).split())})"
    if missing:
        return (
            f"lacks {_named(missing)} of the model that its config.json describes, and random "
            f"numbers would take their place: {_cause(missing, unexpected)}"
        )
    if unexpected:
        return (
            f"holds {_named(unexpected)} that the model of its config.json has no place for, so "
            f"they would be left out: {_cause(missing, unexpected)}"
        )
    return None


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} tensors ({', '.join(names[:SHOWN])}{more})"


def _cause(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    """The most likely cause and its remedy."""
    if any(mark in name for name in unexpected for mark in ADAPTER_MARKS):
        return "an adapter was saved unmerged; merge it (peft's merge_and_unload) and save again"
    for name in unexpected:
        ends = [m for m in missing if name.endswith(m.removeprefix("model."))]
        if ends:
            prefix = name.removesuffix(ends[0].removeprefix("model."))
            return (
                f"names in the file begin with '{prefix}', as in a multimodal or wrapped model; "
                "save the language model by itself"
            )
    if list(missing) == [OUTPUT]:
        return (
            "the output layer is neither stored nor tied to the embeddings; set "
            "tie_word_embeddings to true in config.json if it is, else get the whole checkpoint"
        )
    if missing:
        return "a shard is missing or config.json is of another model; copy or download it again"
    return "config.json is of another (smaller) model; give the one these weights belong to"


def _check_shape(folder: Path, model: PreTrainedModel) -> None:
    """Compares our geometry with transformers' model and the stored tensors."""
    geometry = read_geometry(folder)
    ours, built = (
        {
            "num_attention_heads": g.num_heads,
            "num_key_value_heads": g.num_kv_heads,
            "head_dim": g.head_dim,
        }
        for g in (geometry, model_geometry(model))
    )
    if built != ours:
        raise ValueError(f"config.json in {folder} is read as {ours}, transformers builds {built}")
    QKVCheckpoint(folder, geometry).check()


def _check_tying(folder: Path) -> None:
    """If both matrices are stored, transformers ties them only if they are equal."""
    files = tensor_files(folder)
    if EMBEDDING not in files or OUTPUT not in files:
        return
    embedding, output = (_tensor(files[name], name) for name in (EMBEDDING, OUTPUT))
    if not torch.equal(embedding, output):
        raise ValueError(
            f"config.json in {folder} ties the output layer to the embeddings, but the file holds "
            f"another {OUTPUT}: set tie_word_embeddings to false"
        )


def _tensor(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)
