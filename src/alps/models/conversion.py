"""Conversion to checkpoints for training: GGUF, float8, multimodal, random weights."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    FineGrainedFP8Config,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from alps.base.atomic import write_json
from alps.models.architecture import TEXT_PREFIX, language_config, read_config
from alps.models.byte_tokenizer import byte_tokenizer
from alps.models.qkv import INDEX, stored_dtypes, tensor_files

transformers_logging.disable_progress_bar()


def convert_gguf(file: Path, folder: Path) -> None:
    """Writes model and tokenizer of a GGUF file, weights in float32."""
    print(f"converting {file.name} to safetensors, once", file=sys.stderr)
    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    _save_dequantized(file.parent, folder, **options)
    AutoTokenizer.from_pretrained(file.parent, **options).save_pretrained(folder)


def dequantize_float8(stored: Path, folder: Path) -> None:
    """Writes float8 weights times their block scales in float32; copies all other files.

    Raises:
        ValueError: If a float8 weight has no scales.
    """
    dtypes = stored_dtypes(stored)
    bare = [n for n, d in dtypes.items() if d.startswith("F8") and f"{n}_scale_inv" not in dtypes]
    if bare:
        raise ValueError(
            f"{bare[0]} in {stored} is stored as {dtypes[bare[0]]} without its scales "
            f"({bare[0]}_scale_inv): give the model before quantization"
        )
    print(f"dequantizing {stored} to float32, once", file=sys.stderr)
    config = FineGrainedFP8Config(dequantize=True)
    _save_dequantized(stored, folder, quantization_config=config, local_files_only=True)
    _copy_other_files(stored, folder)


def extract_language_model(stored: Path, folder: Path) -> None:
    """Writes the language model of a multimodal checkpoint in its stored dtype.

    One shard is in memory at a time.
    """
    print(f"extracting the language model of {stored}, once", file=sys.stderr)
    files, places = tensor_files(stored), {}
    for path in sorted(set(files.values())):
        names = [n for n in files if files[n] == path and n.startswith(TEXT_PREFIX)]
        with safe_open(path, framework="pt") as file:
            tensors = {n.removeprefix(TEXT_PREFIX): file.get_tensor(n) for n in names}
        if tensors:
            save_file(tensors, folder / path.name, {"format": "pt"})
            places |= dict.fromkeys(tensors, path.name)
    if (stored / INDEX).exists():
        write_json(folder / INDEX, {"metadata": {}, "weight_map": places})
    outer = read_config(stored)
    shared = {n: outer[n] for n in ("dtype", "torch_dtype", "eos_token_id") if n in outer}
    config = shared | dict(language_config(outer, stored))
    config["architectures"] = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config["model_type"]]]
    write_json(folder / "config.json", config)
    _copy_other_files(stored, folder)


def _copy_other_files(stored: Path, folder: Path) -> None:
    """Copies all but weights and config: the tokenizer, generation settings."""
    for file in stored.iterdir():
        weights = file.suffix == ".safetensors" or file.name.endswith(".index.json")
        if file.is_file() and not weights and file.name != "config.json":
            shutil.copy(file, folder)


def generate_random(spec: Mapping[str, Any], seed: int, folder: Path) -> None:
    """Writes a Llama model with random weights and a byte-level tokenizer.

    Args:
        spec: Fields of its `LlamaConfig`.
        seed: Seed of the weights.
        folder: An empty folder.
    """
    tokenizer = byte_tokenizer()
    special = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    config = LlamaConfig(vocab_size=len(tokenizer), **special, **spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _save_dequantized(stored: Path, folder: Path, **how: Any) -> None:
    """Saves a quantized checkpoint in float32.

    Loading dequantizes its weights, but transformers refuses to save the quantized model class:
    they are copied into an unquantized model.
    """
    quantized = AutoModelForCausalLM.from_pretrained(stored, dtype=torch.float32, **how)
    vars(quantized.config).pop("quantization_config", None)
    model = AutoModelForCausalLM.from_config(quantized.config, dtype=torch.float32)
    model.load_state_dict({n: t.float() for n, t in quantized.state_dict().items()})
    model.save_pretrained(folder)
