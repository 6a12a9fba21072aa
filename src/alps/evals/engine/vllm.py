"""lm-eval's vLLM model on an exported checkpoint (`evals.backend=vllm`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alps.evals.context import EvaluationContext
    from alps.evals.engine.prompts import Decoding


def vllm_problem() -> str | None:
    """Why vLLM cannot generate here, or None."""
    if find_spec("vllm"):
        return None
    return (
        "evals.backend=vllm needs the vllm package and a GPU: run `pip install vllm`, "
        "or set evals.backend=hf"
    )


def vllm_engine(subject: EvaluationContext, template: str | None) -> Any:
    """The subject's checkpoint in vLLM; the engine of a checkpoint is started once.

    Args:
        subject: What is examined.
        template: How prompts are written, or None for lm-eval's own way.

    Raises:
        ValueError: If vLLM is not installed.
    """
    if problem := vllm_problem():
        raise ValueError(problem)
    from alps.models.load import end_ids

    assert subject.checkpoint is not None
    subject.model.to("cpu")  # vLLM claims the device for itself
    engine = _started(str(subject.checkpoint), str(subject.batch_size))
    engine.tokenizer, engine.template = subject.tokenizer, template
    engine.end_ids = end_ids(subject.tokenizer, subject.model)
    return engine


@lru_cache(maxsize=1)
def _started(checkpoint: str, batch_size: str) -> Any:
    return _engine_class()(
        pretrained=checkpoint,
        batch_size=batch_size,
        dtype="auto",
        max_model_len=None,
        gpu_memory_utilization=0.8,
        generation_config="vllm",  # nothing of the checkpoint's own
    )


def _engine_class() -> Any:
    from alps.evals.engine.prompts import PromptEngine

    base: Any = import_module("lm_eval.models.vllm_causallms").VLLM

    class VLLMEngine(PromptEngine, base):
        """VLLM, asked with our token ids."""

        template = None

        @property
        def likelihood_tokens(self) -> int:
            """One less than the context: vLLM generates a token at the end."""
            return self.max_length - 1

        def generate(self, rows: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
            """Token ids that follow each prompt."""
            options = {"temperature": 0.0, **decoding.more}
            sampling = import_module("vllm").SamplingParams(
                max_tokens=decoding.max_new_tokens,
                stop=list(decoding.stop),
                stop_token_ids=list(decoding.end_token_ids),
                **options,
            )
            outputs = self._model_generate(
                requests=[list(row) for row in rows],
                generate=True,
                sampling_params=[sampling] * len(rows),
            )
            return [list(output.outputs[0].token_ids) for output in outputs]

        def _batches(self, numbers: Sequence[int], tokens: int) -> Iterator[Sequence[int]]:
            size = len(numbers) if self.batch_size == "auto" else int(self.batch_size)
            for start in range(0, len(numbers), size):
                yield numbers[start : start + size]

    return VLLMEngine
