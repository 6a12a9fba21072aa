"""Models and tokenizers from local folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils import logging as transformers_logging

from alps.models import packed_attention

transformers_logging.disable_progress_bar()


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A causal language model in `dtype` (the master copy: float32 unless asked)."""
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=packed_attention.NAME,
        local_files_only=True,
        use_safetensors=True,  # never unpickle a file somebody gives us
        trust_remote_code=False,
    )


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer, which has an end-of-text token."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer in {folder} has no end-of-text token")
    return tokenizer


def pad_id(tokenizer: Tokenizer) -> int:
    """The id of the padding token: the tokenizer's own, else its end-of-text token."""
    found = tokenizer.pad_token_id
    found = tokenizer.eos_token_id if found is None else found
    assert isinstance(found, int)
    return found


def end_ids(tokenizer: Tokenizer, model: Any) -> list[int]:
    """Tokens that end an answer, in evaluations and exports.

    The first is the tokenizer's own, which training teaches. Those that the base model names for
    itself (`<|end_of_text|>` beside `<|eot_id|>`) follow, if they are special tokens: what a
    config has by default is often an ordinary token of this tokenizer.
    """
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    found: list[Any] = [tokenizer.eos_token_id]
    for config in (model.generation_config, model.config):
        ids = config.eos_token_id
        found += ids if isinstance(ids, list) else [ids]
    return list(dict.fromkeys([found[0], *(i for i in found if i in special)]))


def context_length(folder: Path) -> int | None:
    """Most tokens that the model in a folder was made for, or None if its config doesn't say."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return getattr(config, "max_position_embeddings", None)
