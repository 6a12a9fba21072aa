"""Evaluates a set of benchmarks, with results cached beside the weights.

The training callback, `alps evaluate run=...` and `alps evaluate model=...` share this code.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.base.serialization import to_dict
from alps.evals.context import EvaluationContext, GenerationCounts
from alps.evals.precision import bfloat16_copy, evaluation_precision, matmul_precision
from alps.models.checkpoint import materialize
from alps.runs.completion import missing_benchmarks
from alps.runs.evaluation import Evaluation, cached_evaluation
from alps.runs.folder import RunFolder
from alps.settings.infrastructure import Evals
from alps.settings.interfaces import Benchmark
from alps.settings.run import Run

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)


def evaluate(
    evals: Evals, folder: RunFolder, weights: str, load_context: Callable[[], EvaluationContext]
) -> dict[str, Evaluation]:
    """Evaluation of every benchmark that may run, by name.

    With several ranks, each one calls it: they share the documents, and rank 0 writes.

    Args:
        evals: The benchmarks.
        folder: Folder with `evals/<benchmark>/<protocol>.json`.
        weights: Fingerprint of the weights.
        load_context: Loads the model; called only if a result is missing.

    Raises:
        ValueError: If a benchmark's documents or packages are missing, or a requested one would run
            generated code unprotected; one sentence.
    """
    problems = _broadcast(unsafe_code_problems(evals, folder, weights))  # rank 0's machine counts
    if problems:
        raise ValueError(problems[0])
    _warn(evals)
    names = _broadcast([b.name for b in missing_benchmarks(evals, folder, weights)])
    missing = [b for b in evals.benchmarks if b.name in names]
    for benchmark in missing:
        benchmark.ready(evals.documents_dir)
    if missing:
        consent = evals.allow_unsafe_code
        context = replace(load_context(), weights=weights, allow_unsafe_code=consent)
        with matmul_precision(context.precision):
            for benchmark in missing:
                _evaluate_one(benchmark, folder, context)
    if dist := _process_group():
        dist.barrier()
    where = folder, weights, evals.documents_dir, evals.precision
    pairs = [(b, cached_evaluation(b, *where)) for b in evals.benchmarks]
    return {benchmark.name: evaluation for benchmark, evaluation in pairs if evaluation}


def unsafe_code_problems(evals: Evals, folder: RunFolder, weights: str) -> list[str]:
    """One sentence if requested benchmarks without a result lack a sandbox, else nothing.

    Args:
        evals: The benchmarks.
        folder: Folder with the results.
        weights: Fingerprint of the weights.
    """
    from alps.evals.sandbox.availability import unavailable_reason

    where = folder, weights, evals.documents_dir, evals.precision
    names = [b.name for b in evals.refused if cached_evaluation(b, *where) is None]
    return [f"{', '.join(names)}: {unavailable_reason()}"] if names else []


def _warn(evals: Evals) -> None:
    from alps.evals.sandbox.availability import unavailable_reason

    for benchmark in evals.benchmarks:
        if benchmark.protected():
            continue
        if evals.allow_unsafe_code:
            log.warning("%s executes generated code without any protection", benchmark.name)
        else:
            log.warning("%s is skipped: %s", benchmark.name, unavailable_reason())


def _evaluate_one(benchmark: Benchmark, folder: RunFolder, context: EvaluationContext) -> None:
    log.info("evaluating %s", benchmark.name)
    start = time.perf_counter()
    path = folder.evaluation_path(benchmark.name, benchmark.protocol)
    documents = benchmark.fingerprint(context.data_dir)
    context = replace(context, folder=path.with_suffix(""), counts=GenerationCounts())
    result = benchmark.evaluate(context)
    generation = _generation(context.counts)
    if result is None:
        return
    Evaluation(
        benchmark=to_dict(benchmark),
        weights=context.weights,
        documents=documents,
        metrics=result.metrics,
        uncertainty={name: asdict(value) for name, value in result.uncertainty.items()},
        num_documents=result.num_documents,
        details=result.details,
        backend=context.backend,
        precision=context.precision,
        seconds=round(time.perf_counter() - start, 3),
        generation=generation,
    ).write(folder)


def _generation(counts: GenerationCounts) -> dict[str, float]:
    """Generation cost over all ranks."""
    ranks = [counts]
    if dist := _process_group():
        ranks = [GenerationCounts()] * dist.get_world_size()
        dist.all_gather_object(ranks, counts)
    seconds = max(rank.seconds for rank in ranks)
    tokens = sum(rank.num_tokens for rank in ranks)
    return {
        "answers": sum(rank.num_answers for rank in ranks),
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 2) if seconds else 0.0,
    }


def _broadcast(values: list[str]) -> list[str]:
    """Rank 0's values: ranks look at the files at different times."""
    objects = [values]
    if dist := _process_group():
        dist.broadcast_object_list(objects, src=0)
    return objects[0]


def _process_group() -> Any:
    """`torch.distributed` if several ranks evaluate, else None."""
    import torch.distributed as dist

    return dist if dist.is_available() and dist.is_initialized() else None


def evaluation_context(
    run: Run,
    model: nn.Module,
    checkpoint: Path | None = None,
    *,
    trained: bool = True,
    device: torch.device | None = None,
) -> EvaluationContext:
    """Evaluation context of a model under the run's settings, in `evals.precision`.

    Args:
        run: Provides data, tokenizer and evaluation settings.
        model: In evaluation mode.
        checkpoint: The model as a folder, for backends that load it themselves.
        trained: Whether it is the run's trained model, or its base model.
        device: Device to evaluate on, or None for that of the model.

    Raises:
        ValueError: If `evals.precision` is not possible; one sentence.
    """
    from alps.evals.engine.language_model import language_model
    from alps.models.load import load_tokenizer

    device = device or next(model.parameters()).device
    precision = evaluation_precision(run, trained, device.type == "cuda")
    if precision == "bf16" and run.evals.backend == "hf":
        model = bfloat16_copy(model)
    return EvaluationContext(
        model=model.to(device),
        tokenizer=load_tokenizer(materialize(run.model)),
        data=run.data,
        batch_size=run.evals.batch_size,
        folder=run.folder,
        weights="",
        data_dir=run.evals.documents_dir,
        backend=run.evals.backend,
        precision=precision,
        checkpoint=checkpoint,
        progress=run.trainer.progress,
        build_language_model=language_model,
    )
