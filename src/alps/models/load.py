"""Models and tokenizers from local folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils import logging as transformers_logging

from alps.models import packed_attention
from alps.models.architecture import TOKENIZER_FILES
from alps.models.integrity import check_weights

transformers_logging.disable_progress_bar()


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A causal language model in `dtype` (float32 master weights by default).

    Raises:
        ValueError: If tensors are missing or unexpected.
    """
    check_weights(folder)
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=packed_attention.NAME,
        local_files_only=True,
        use_safetensors=True,  # never unpickle a user's file
        trust_remote_code=False,
    )


def empty_model(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """As `load_model`, with parameters on the meta device and buffers in memory.

    Raises:
        ValueError: If tensors are missing or unexpected.
    """
    check_weights(folder)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder, local_files_only=True),
            dtype=dtype,
            attn_implementation=packed_attention.NAME,
            trust_remote_code=False,
        )
    model.tie_weights()
    return model


def check_loadable(folder: Path) -> None:
    """Refuses a checkpoint with incomplete weights or an unsuitable tokenizer.

    Reads names, shapes and the tokenizer, no weights.

    Raises:
        ValueError: If a check fails.
    """
    num_embeddings = check_weights(folder)
    last = max(load_tokenizer(folder).get_vocab().values())
    if last >= num_embeddings:
        raise ValueError(
            f"the tokenizer in {folder} has {last + 1} tokens, but the embedding matrix has "
            f"{num_embeddings} rows: call model.resize_token_embeddings({last + 1}) and save model "
            "and tokenizer again"
        )


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer; it has an EOS token.

    Raises:
        ValueError: If it is missing or damaged, or has no EOS token.
    """
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise ValueError(
            f"{folder} has no tokenizer (none of {', '.join(TOKENIZER_FILES)}): copy the files of "
            "the model's tokenizer there"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # errors of tokenizers, sentencepiece, json, tiktoken, ...
        first = " ".join(str(error).split())[:300]
        raise ValueError(f"the tokenizer in {folder} cannot be loaded ({first})") from None
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer in {folder} has no end-of-text token")
    return tokenizer


def pad_id(tokenizer: Tokenizer) -> int:
    """Id of the padding token, or else of the EOS token."""
    found = tokenizer.pad_token_id
    found = tokenizer.eos_token_id if found is None else found
    assert isinstance(found, int)
    return found


def end_ids(tokenizer: Tokenizer, model: Any) -> list[int]:
    """EOS token ids for evaluations and exports.

    The first is the tokenizer's own, which is used in training. Those of the base model's configs
    (`<|end_of_text|>` beside `<|eot_id|>`) follow if they are special tokens: a default value in
    a config is often an ordinary token of this tokenizer.
    """
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    found: list[Any] = [tokenizer.eos_token_id]
    for config in (model.generation_config, model.config):
        ids = config.eos_token_id
        found += ids if isinstance(ids, list) else [ids]
    return list(dict.fromkeys([found[0], *(i for i in found if i in special)]))


def context_length(folder: Path) -> int | None:
    """Context length of the model in a folder, or None if its config has none."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return getattr(config, "max_position_embeddings", None)
