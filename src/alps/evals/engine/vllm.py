"""lm-eval's vLLM model on an exported checkpoint (`evals.backend=vllm`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alps.evals.context import EvaluationContext
    from alps.evals.engine.prompts import Decoding

VLLM_DTYPES = {"32": "float32", "bf16": "bfloat16"}
"""Precision of an evaluation -> vLLM's dtype."""


def vllm_unavailable_reason() -> str | None:
    """Why vLLM is not available here, or None if it is."""
    if find_spec("vllm"):
        return None
    return (
        "evals.backend=vllm needs the vllm package and a GPU: run `pip install vllm`, "
        "or set evals.backend=hf"
    )


def vllm_engine(context: EvaluationContext, template: str | None) -> Any:
    """VLLM on the context's checkpoint; a checkpoint's engine is started once.

    Args:
        context: The model to evaluate.
        template: Prompt template, or None for lm-eval's encoding.

    Raises:
        ValueError: If vLLM is not installed.
    """
    if problem := vllm_unavailable_reason():
        raise ValueError(problem)
    from alps.models.load import end_ids

    assert context.checkpoint is not None
    context.model.to("cpu")  # vLLM claims the whole device
    dtype = VLLM_DTYPES[context.precision]
    engine = _started(str(context.checkpoint), str(context.batch_size), dtype)
    engine.tokenizer, engine.template = context.tokenizer, template
    engine.end_ids = end_ids(context.tokenizer, context.model)
    return engine


@lru_cache(maxsize=1)
def _started(checkpoint: str, batch_size: str, dtype: str) -> Any:
    return _engine_class()(
        pretrained=checkpoint,
        batch_size=batch_size,
        dtype=dtype,
        max_model_len=None,
        gpu_memory_utilization=0.8,
        generation_config="vllm",  # ignores the checkpoint's generation config
    )


def _engine_class() -> Any:
    from alps.evals.engine.prompts import PromptEngine

    base: Any = import_module("lm_eval.models.vllm_causallms").VLLM

    class VLLMEngine(PromptEngine, base):
        """lm-eval's VLLM with our prompt encoding."""

        template = None

        @property
        def likelihood_tokens(self) -> int:
            """One less than the context: vLLM generates one token per request."""
            return self.max_length - 1

        def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
            """Token ids of the answer to each prompt."""
            options = {"temperature": 0.0, **decoding.extra}
            sampling = import_module("vllm").SamplingParams(
                max_tokens=decoding.max_new_tokens,
                stop=list(decoding.stop),
                stop_token_ids=list(decoding.end_token_ids),
                **options,
            )
            outputs = self._model_generate(
                requests=[list(ids) for ids in prompts],
                generate=True,
                sampling_params=[sampling] * len(prompts),
            )
            return [list(output.outputs[0].token_ids) for output in outputs]

        def _prompts_per_batch(self, num_prompts: int, tokens: int) -> int:
            return num_prompts if self.batch_size == "auto" else int(self.batch_size)

    return VLLMEngine
