"""lm-eval's vLLM model on an exported checkpoint (`evals.backend=vllm`)."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alps.evals.subject import Subject


def vllm_problem() -> str | None:
    """Why vLLM cannot generate here, or None."""
    if find_spec("vllm"):
        return None
    return (
        "evals.backend=vllm needs the vllm package and a GPU: run `pip install vllm`, "
        "or set evals.backend=hf"
    )


def vllm_engine(subject: Subject, add_bos_token: bool | None) -> Any:
    """The subject's checkpoint in vLLM; the engine of a checkpoint is started once.

    Raises:
        ValueError: If vLLM is not installed.
    """
    if problem := vllm_problem():
        raise ValueError(problem)
    assert subject.checkpoint is not None
    subject.model.to("cpu")  # vLLM claims the device for itself
    return _started(str(subject.checkpoint), str(subject.batch_size), add_bos_token)


@lru_cache(maxsize=1)
def _started(checkpoint: str, batch_size: str, add_bos_token: bool | None) -> Any:
    model: Any = import_module("lm_eval.models.vllm_causallms").VLLM
    return model(
        pretrained=checkpoint,
        batch_size=batch_size,
        add_bos_token=add_bos_token,
        dtype="auto",
        max_model_len=None,
        gpu_memory_utilization=0.8,
    )
