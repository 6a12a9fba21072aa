"""lm-eval's HFLM on a model that is in memory, with batches that fit and prefixes computed once."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn

from alps.evals.batch_size import fitting
from alps.evals.kv_cache import roomy_cache
from alps.evals.shared_prefix import SharedPrefix, left_aligned, prefix_first, repeated
from alps.models.load import Tokenizer

for name in ("lm_eval.models.huggingface", "lm_eval.models.utils_hf"):
    logging.getLogger(name).setLevel(logging.ERROR)  # it warns that the model is in memory

log = logging.getLogger(__name__)


_HFLM: Any = HFLM  # its decorator hides its type


class HFEngine(_HFLM):
    """HFLM, asked as lm-eval asks it; only how the work is done differs.

    Prompts are sorted by length and answered in batches (HFLM's own), as large as memory allows;
    what the prompts of a batch begin with is computed once. Answers differ from HFLM's at batch
    size 1 by rounding only.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        batch_size: int | Literal["auto"],
        add_bos_token: bool | None,
    ):
        """Wraps a model.

        Args:
            model: In evaluation mode, on its device.
            tokenizer: The model's.
            batch_size: Prompts side by side, or `auto`.
            add_bos_token: Whether a prompt begins with the beginning-of-text token.
        """
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=1 if batch_size == "auto" else batch_size,
            add_bos_token=add_bos_token,
        )
        self.automatic = batch_size == "auto"
        self._prefix = SharedPrefix(model)
        self._longest_prefix = 0

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers to prompts."""
        lengths = [len(self.tok_encode(request.args[0])) for request in requests]
        settings: list[Any] = [request.arguments[1] for request in requests]
        asked = max((s.get("max_gen_toks", self.max_gen_toks) for s in settings), default=0)
        if cut := sum(length + asked > self.max_length for length in lengths):
            log.warning("%d prompts lose their beginning: longer than the model's context", cut)
        if self.automatic and requests:
            self._fit(min(max(lengths) + asked, self.max_length), 1, len(requests))
        return super().generate_until(requests, disable_tqdm)

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

    def _model_generate(
        self, context: Tensor, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> Tensor:
        """Token ids of prompts [rows, tokens] with what follows each."""
        self._tell()
        mask = generation_kwargs["attention_mask"]
        moved, shortest = left_aligned(context, mask)
        prefix = self._prefix.of(moved, shortest - 1)
        if prefix is not None:
            context, kept = prefix_first(context, mask, len(prefix.ids))
            generation_kwargs["attention_mask"] = kept.to(mask.dtype)
            generation_kwargs["past_key_values"] = repeated(prefix, len(context), max_length)
        elif self._prefix.possible:
            layers = self.model.config.num_hidden_layers
            generation_kwargs["past_key_values"] = roomy_cache(layers, max_length)
        return super()._model_generate(context, max_length, stop, **generation_kwargs)
