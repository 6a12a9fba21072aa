"""lm-eval's HFLM on a model in memory, with automatic batch sizes and prefix caching."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils_hf import stop_sequences_criteria
from torch import Tensor, nn
from transformers import GenerationConfig

from alps.base.log_levels import log_level
from alps.evals.context import NOT_A_NUMBER
from alps.evals.engine.batch_size import max_batch_size
from alps.evals.engine.kv_cache import preallocated_cache
from alps.evals.engine.prompts import Decoding, PromptEngine
from alps.evals.engine.shared_prefix import (
    SharedPrefix,
    expanded_cache,
    padded_right,
    padding_after_prefix,
)
from alps.models.load import Tokenizer, end_ids, pad_id

_HFLM: Any = HFLM  # its decorator hides its type


class HFEngine(PromptEngine, _HFLM):
    """HFLM with the same requests and answers, but faster batches.

    Prompts are sorted by length and answered in batches as large as memory allows; the shared
    prefix of a batch is computed once. Without a template, answers differ from HFLM's at batch
    size 1 by rounding only.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        batch_size: int | Literal["auto"],
        template: str | None,
    ):
        """Wraps a model.

        Args:
            model: In evaluation mode, on its device.
            tokenizer: The model's.
            batch_size: Prompts per batch, or `auto`.
            template: Prompt template, or None for lm-eval's encoding.

        Raises:
            ValueError: If the model computes NaN, from which decoding would still pick tokens.
        """
        self.template = template
        pad = tokenizer.pad_token
        with _only_errors():
            super().__init__(
                pretrained=model,
                tokenizer=tokenizer,
                batch_size=1 if batch_size == "auto" else batch_size,
                softmax_dtype="float32",
            )
        tokenizer.pad_token = pad  # HFLM sets one
        self.end_ids = end_ids(tokenizer, model)
        self.automatic = batch_size == "auto"
        self._prefix = SharedPrefix(model)
        self._max_prefix = 0
        with torch.no_grad():
            first = torch.tensor([[self.prefix_token_id]], device=self.device)
            if self.model(input_ids=first).logits.isnan().any():
                raise ValueError(NOT_A_NUMBER)

    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
        """Token ids of the answer to each prompt."""
        self._report_batch()
        padding, width = pad_id(self.tokenizer), max(map(len, prompts))
        ids = torch.tensor([[padding] * (width - len(p)) + [*p] for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        ids, mask = ids.to(self.device), mask.to(self.device)
        config = generation_config(decoding, padding)
        cache: dict[str, Any] = {}
        if config.num_beams in (None, 1):
            ids, mask, cache = self._with_cache(ids, mask, width + decoding.max_new_tokens)
        tokenizer: Any = self.tokenizer
        stops = stop_sequences_criteria(tokenizer, list(decoding.stop), width, len(prompts))
        with override_generation_config(self.model, config):
            sequences = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                stopping_criteria=stops,
                **cache,
            )
        return [sequence[width:] for sequence in sequences.tolist()]

    def _with_cache(
        self, ids: Tensor, mask: Tensor, capacity: int
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Prompts [batch, tokens], their mask, and a KV cache with their shared prefix."""
        aligned, shortest = padded_right(ids, mask)
        prefix = self._prefix.find(aligned, shortest - 1)
        if prefix is not None:
            ids, kept = padding_after_prefix(ids, mask, len(prefix.ids))
            cache = expanded_cache(prefix, len(ids), capacity)
            return ids, kept.to(mask.dtype), {"past_key_values": cache}
        if self._prefix.supported:
            layers = self.model.config.num_hidden_layers
            return ids, mask, {"past_key_values": preallocated_cache(layers, capacity)}
        return ids, mask, {}

    def _prompts_per_batch(self, num_prompts: int, tokens: int) -> int:
        if self.automatic:
            self._set_batch_size(tokens, 1, num_prompts)
        return self.batch_size_per_gpu

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        if not requests:
            return []
        longest = max(len(context) + len(rest) for _, context, rest in requests)
        truncated = longest > self.max_length  # HFLM then drops the beginning of some contexts
        shortest = min(len(context) for _, context, _ in requests)
        self._max_prefix = 0 if truncated else shortest - 1
        if self.automatic:
            tokens = min(longest, self.max_length)
            self._set_batch_size(tokens, tokens - max(0, self._max_prefix), len(requests))
        with _only_errors():
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)

    def _report_batch(self) -> None:
        """Tells the progress bar that a batch begins: its answers arrive together."""
        if batch_begins := getattr(self.cache_hook, "batch_begins", None):
            batch_begins()

    def _set_batch_size(self, tokens: int, logits: int, num_requests: int) -> None:
        largest = max_batch_size(self.model.config, self.model.dtype, tokens, logits)
        self.batch_size_per_gpu = min(num_requests, largest)

    def _model_call(
        self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Logits [batch, tokens, vocabulary] without those of a shared prefix.

        HFLM counts positions from the end of the logits, so it finds its continuations.
        """
        self._report_batch()
        prefix = self._prefix.find(inps, self._max_prefix)
        if prefix is None:
            return super()._model_call(inps, attn_mask, labels)
        cache = expanded_cache(prefix, *inps.shape)
        with torch.no_grad():
            rest = inps[:, len(prefix.ids) :]
            return self.model(input_ids=rest, past_key_values=cache, use_cache=True).logits


def generation_config(decoding: Decoding, padding: int) -> GenerationConfig:
    """Decoding settings as transformers takes them.

    Raises:
        ValueError: If transformers does not know a setting of the benchmark.
    """
    config = GenerationConfig()
    unknown = config.update(
        do_sample=decoding.do_sample,
        max_new_tokens=decoding.max_new_tokens,
        eos_token_id=list(decoding.end_token_ids),
        pad_token_id=padding,
        use_cache=True,
        **decoding.extra,
    )
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ValueError(f"transformers knows no generation setting {names}: remove it")
    return config


@contextmanager
def override_generation_config(model: nn.Module, config: GenerationConfig) -> Iterator[None]:
    """Replaces the model's own generation config, which `generate` would merge into ours."""
    modules: list[Any] = [m for m in model.modules() if "generation_config" in vars(m)]
    originals = [module.generation_config for module in modules]
    try:
        for module in modules:
            module.generation_config = config
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            module.generation_config = original


def _only_errors() -> AbstractContextManager[None]:
    """Hides HFLM's warnings: of models in memory, and of truncation, which we count ourselves."""
    return log_level(logging.ERROR, HFLM.__module__)
