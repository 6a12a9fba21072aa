"""Models and tokenizers from local folders."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
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
    """The tokenizer, with a padding token: the model's own, else its end-of-text token."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer in {folder} has no end-of-text token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def pad_id(tokenizer: Tokenizer) -> int:
    """The id of the padding token, which `load_tokenizer` made sure exists."""
    found = tokenizer.pad_token_id
    assert isinstance(found, int)
    return found
