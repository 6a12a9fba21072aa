"""lm-eval's HFLM on a model that is in memory, with batches that fit and prefixes computed once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils_hf import stop_sequences_criteria
from torch import Tensor, nn
from transformers import GenerationConfig

from alps.evals.context import NOT_A_NUMBER
from alps.evals.engine.batch_size import fitting
from alps.evals.engine.kv_cache import roomy_cache
from alps.evals.engine.prompts import Decoding, PromptEngine
from alps.evals.engine.shared_prefix import SharedPrefix, left_aligned, prefix_first, repeated
from alps.models.load import Tokenizer, end_ids, pad_id

for name in ("lm_eval.models.huggingface", "lm_eval.models.utils_hf"):
    logging.getLogger(name).setLevel(logging.ERROR)  # it warns that the model is in memory

_HFLM: Any = HFLM  # its decorator hides its type


class HFEngine(PromptEngine, _HFLM):
    """HFLM, asked as lm-eval asks it; only how the work is done differs.

    Prompts are sorted by length and answered in batches, as large as memory allows; what the
    prompts of a batch begin with is computed once. Without a template, answers differ from HFLM's
    at batch size 1 by rounding only.
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
            batch_size: Prompts side by side, or `auto`.
            template: How prompts are written, or None for lm-eval's own way.

        Raises:
            ValueError: If the model computes NaN, of which some answer would always be made.
        """
        self.template = template
        pad = tokenizer.pad_token
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=1 if batch_size == "auto" else batch_size,
        )
        tokenizer.pad_token = pad  # HFLM gives it one
        self.end_ids = end_ids(tokenizer, model)
        self.automatic = batch_size == "auto"
        self._prefix = SharedPrefix(model)
        self._longest_prefix = 0
        with torch.no_grad():
            first = torch.tensor([[self.prefix_token_id]], device=self.device)
            if self.model(input_ids=first).logits.isnan().any():
                raise ValueError(NOT_A_NUMBER)

    def generate(self, rows: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
        """Token ids that follow each prompt."""
        self._tell()
        padding, width = pad_id(self.tokenizer), max(map(len, rows))
        ids = torch.tensor([[padding] * (width - len(row)) + [*row] for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        ids, mask = ids.to(self.device), mask.to(self.device)
        config = generation_config(decoding, padding)
        cache: dict[str, Any] = {}
        if config.num_beams in (None, 1):
            ids, mask, cache = self._with_cache(ids, mask, width + decoding.max_new_tokens)
        tokenizer: Any = self.tokenizer
        stops = stop_sequences_criteria(tokenizer, list(decoding.stop), width, len(rows))
        with replaced_generation_config(self.model, config):
            found = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                stopping_criteria=stops,
                **cache,
            )
        return [row[width:] for row in found.tolist()]

    def _with_cache(
        self, ids: Tensor, mask: Tensor, room: int
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Prompts [rows, tokens] with the keys and values of what all of them begin with."""
        moved, shortest = left_aligned(ids, mask)
        prefix = self._prefix.of(moved, shortest - 1)
        if prefix is not None:
            ids, kept = prefix_first(ids, mask, len(prefix.ids))
            return ids, kept.to(mask.dtype), {"past_key_values": repeated(prefix, len(ids), room)}
        if self._prefix.possible:
            layers = self.model.config.num_hidden_layers
            return ids, mask, {"past_key_values": roomy_cache(layers, room)}
        return ids, mask, {}

    def _batches(self, numbers: Sequence[int], tokens: int) -> Iterator[Sequence[int]]:
        if self.automatic:
            self._fit(tokens, 1, len(numbers))
        size = self.batch_size_per_gpu
        for start in range(0, len(numbers), size):
            yield numbers[start : start + size]

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        if not requests:
            return []
        longest = max(len(context) + len(rest) for _, context, rest in requests)
        cut = longest > self.max_length  # HFLM then drops the beginning of some
        self._longest_prefix = 0 if cut else min(len(context) for _, context, _ in requests) - 1
        if self.automatic:
            tokens = min(longest, self.max_length)
            self._fit(tokens, tokens - max(0, self._longest_prefix), len(requests))
        return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)

    def _tell(self) -> None:
        """Answers come a batch at a time; what counts them wants to know where one begins."""
        if tell := getattr(self.cache_hook, "batch_begins", None):
            tell()

    def _fit(self, tokens: int, logits: int, rows: int) -> None:
        config = self.model.config
        self.batch_size_per_gpu = min(rows, fitting(config, self.model.dtype, tokens, logits))

    def _model_call(
        self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Logits [rows, tokens, vocabulary], those of a shared prefix left out.

        HFLM counts positions from the end of the logits, so that it finds its continuations.
        """
        self._tell()
        prefix = self._prefix.of(inps, self._longest_prefix)
        if prefix is None:
            return super()._model_call(inps, attn_mask, labels)
        cache = repeated(prefix, *inps.shape)
        with torch.no_grad():
            rest = inps[:, len(prefix.ids) :]
            return self.model(input_ids=rest, past_key_values=cache, use_cache=True).logits


def generation_config(decoding: Decoding, padding: int) -> GenerationConfig:
    """What transformers is told about an answer.

    Raises:
        ValueError: If the benchmark sets what transformers does not know.
    """
    config = GenerationConfig()
    unknown = config.update(
        do_sample=decoding.do_sample,
        max_new_tokens=decoding.max_new_tokens,
        eos_token_id=list(decoding.end_token_ids),
        pad_token_id=padding,
        use_cache=True,
        **decoding.more,
    )
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ValueError(f"transformers knows no generation setting {names}: remove it")
    return config


@contextmanager
def replaced_generation_config(model: nn.Module, config: GenerationConfig) -> Iterator[None]:
    """Inside, the model has no generation settings but these: `generate` mixes in its own."""
    holders: list[Any] = [m for m in model.modules() if "generation_config" in vars(m)]
    own = [module.generation_config for module in holders]
    try:
        for module in holders:
            module.generation_config = config
        yield
    finally:
        for module, before in zip(holders, own, strict=True):
            module.generation_config = before
