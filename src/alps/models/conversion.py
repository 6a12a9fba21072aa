"""Checkpoints that transformers loads, made of something else: GGUF, float8, random weights."""

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
    """Writes a GGUF file's model and tokenizer, weights in float32."""
    print(f"converting {file.name} to safetensors, once", file=sys.stderr)
    place = {"gguf_file": file.name, "local_files_only": True}
    _save_dequantized(file.parent, folder, **place)
    AutoTokenizer.from_pretrained(file.parent, **place).save_pretrained(folder)


def dequantize_float8(stored: Path, folder: Path) -> None:
    """Writes float8 weights times the scales of their blocks, in float32; other files are copied.

    Raises:
        ValueError: If a float8 weight has no scales, without which its numbers mean nothing.
    """
    dtypes = stored_dtypes(stored)
    bare = [n for n, d in dtypes.items() if d.startswith("F8") and f"{n}_scale_inv" not in dtypes]
    if bare:
        raise ValueError(
            f"{bare[0]} in {stored} is stored as {dtypes[bare[0]]} without its scales "
            f"({bare[0]}_scale_inv): give the model before quantization"
        )
    print(f"dequantizing {stored} to float32, once", file=sys.stderr)
    plain = FineGrainedFP8Config(dequantize=True)
    _save_dequantized(stored, folder, quantization_config=plain, local_files_only=True)
    _copy_other_files(stored, folder)


def extract_language_model(stored: Path, folder: Path) -> None:
    """Writes the language model of a multimodal checkpoint, its tensors as they are stored.

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
    """Writes a Llama model with random weights and a tokenizer of bytes.

    Args:
        spec: Fields of its `LlamaConfig`.
        seed: Of the weights.
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
    """Saves a quantized checkpoint as a plain one in float32.

    Its weights are plain numbers once they are loaded, but transformers refuses to save the model:
    a plain one takes them over.
    """
    quantized = AutoModelForCausalLM.from_pretrained(stored, dtype=torch.float32, **how)
    vars(quantized.config).pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(quantized.config, dtype=torch.float32)
    plain.load_state_dict({n: t.float() for n, t in quantized.state_dict().items()})
    plain.save_pretrained(folder)
